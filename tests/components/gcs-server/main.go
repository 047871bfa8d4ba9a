// A GCS server for tests: fake-gcs-server, with uploads of the XML API before it, which it does not take.
//
// A put of the XML API becomes an upload of the JSON API with the same precondition, so it is fake-gcs-server that keeps
// generations and refuses. In buckets named in -ignoring the precondition is dropped: a store as Bursar must not use.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// Paths of the JSON API and of the server itself; every other first part is a bucket.
var reserved = []string{"storage", "upload", "download", "batch", "_internal"}

func isReserved(name string) bool {
	for _, one := range reserved {
		if name == one {
			return true
		}
	}
	return false
}

// multipartBody is an upload's body and content type: what the object is called, then what it holds.
func multipartBody(object string, content io.Reader) (*bytes.Buffer, string, error) {
	body := new(bytes.Buffer)
	parts := multipart.NewWriter(body)
	name, err := json.Marshal(map[string]string{"name": object})
	if err != nil {
		return nil, "", err
	}
	if err := writePart(parts, "application/json", bytes.NewReader(name)); err != nil {
		return nil, "", err
	}
	if err := writePart(parts, "application/octet-stream", content); err != nil {
		return nil, "", err
	}
	return body, "multipart/related; boundary=" + parts.Boundary(), parts.Close()
}

func writePart(parts *multipart.Writer, kind string, content io.Reader) error {
	part, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}})
	if err != nil {
		return err
	}
	_, err = io.Copy(part, content)
	return err
}

func withPuts(server http.Handler, ignoring string) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/health" {
			return
		}
		bucket, object, named := strings.Cut(strings.TrimPrefix(request.URL.Path, "/"), "/")
		if request.Method != http.MethodPut || !named || isReserved(bucket) || request.URL.RawQuery != "" {
			server.ServeHTTP(answer, request)
			return
		}
		// Uploads of type media have their precondition ignored, those of type multipart do not.
		query := url.Values{"uploadType": {"multipart"}}
		if match := request.Header.Get("x-goog-if-generation-match"); match != "" && bucket != ignoring {
			query.Set("ifGenerationMatch", match)
		}
		body, kind, err := multipartBody(object, request.Body)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		upload := request.Clone(request.Context())
		upload.Method = http.MethodPost
		upload.Header.Set("Content-Type", kind)
		upload.Body, upload.ContentLength = io.NopCloser(body), int64(body.Len())
		upload.URL = &url.URL{Path: "/upload/storage/v1/b/" + bucket + "/o", RawQuery: query.Encode()}
		upload.RequestURI = upload.URL.RequestURI()
		said := httptest.NewRecorder()
		server.ServeHTTP(said, upload)
		var put struct{ Etag, Generation string }
		if said.Code == http.StatusOK && json.Unmarshal(said.Body.Bytes(), &put) == nil {
			answer.Header().Set("ETag", put.Etag)
			answer.Header().Set("x-goog-generation", put.Generation)
			return
		}
		answer.WriteHeader(said.Code)
		_, _ = answer.Write(said.Body.Bytes())
	})
}

func main() {
	address := flag.String("address", "", "host:port to listen on")
	bucket := flag.String("bucket", "", "a bucket to make")
	ignoring := flag.String("ignoring", "", "a bucket to make in which preconditions are ignored")
	flag.Parse()
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, PublicHost: *address})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{*bucket, *ignoring} {
		server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: name})
	}
	log.Fatal(http.ListenAndServe(*address, withPuts(server.HTTPHandler(), *ignoring)))
}
