//! The real binary's archive, checked by the binary and by readers that know nothing of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::fixture::World;
use super::harness::{Place, component, get, wait_for};

fn python(arguments: &[&str]) -> Option<String> {
    let python = component("BURSAR_TEST_PYTHON")?;
    let output = Command::new(python).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    Some(text(&output.stdout))
}

fn oracle() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/evidence.py").to_owned()
}

/// Follows a bundle's own recipe, in Python; the kinds of its facts, or none where Python is not there.
///
/// # Errors
/// What does not hold.
pub fn follow_recipe(bundle: &Path, keys: &[String]) -> Option<Result<Vec<String>, String>> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(component("BURSAR_TEST_PYTHON")?);
    command.arg(format!("{root}/tests/oracle/bundle.py")).arg(bundle).arg(format!("{root}/schemas/avro"));
    let output = command.args(keys).output().unwrap();
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(Ok(serde_json::from_value(said["proved"].clone()).unwrap()))
}

/// Holds an archive to what other readers say of it: rows, proven facts and the newest checkpoint.
pub fn ask_others(archive: &Path, key: &Path, leaves: u64, rows: u64, proven: u64) {
    let Some(answer) = python(&[&oracle(), archive.to_str().unwrap(), key.to_str().unwrap()]) else { return };
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((answer["leaves"].as_u64(), answer["rows"].as_u64()), (Some(leaves), Some(rows)), "{answer}");
    assert_eq!(answer["proven"].as_u64(), Some(proven), "{answer}");
    let tiles = archive.join("log");
    python(&[
        "-m",
        "aics_tlog",
        "verify-checkpoint",
        "--tiles",
        tiles.to_str().unwrap(),
        "--vkey-file",
        key.to_str().unwrap(),
    ]);
    // Leaves that were added together have one checkpoint.
    let mut sizes: Vec<String> = std::fs::read_dir(tiles.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // Not what a writer died over.
        .filter(|name| !name.contains('#'))
        .collect();
    sizes.sort();
    let old = sizes[sizes.len() / 2].trim_start_matches('0').to_owned();
    let note = |size: &str| tiles.join(format!("checkpoints/{size:0>20}")).to_str().unwrap().to_owned();
    python(&[
        "-m",
        "aics_tlog",
        "verify-consistency",
        "--tiles",
        tiles.to_str().unwrap(),
        "--vkey-file",
        key.to_str().unwrap(),
        "--old-size",
        &old,
        "--old-root",
        &root_of(&note(&old)),
    ]);
    let last = (leaves - 1).to_string();
    let leaf = archive.join(format!("log/leaf/{last:0>20}"));
    python(&[
        "-m",
        "aics_tlog",
        "verify-inclusion",
        "--tiles",
        tiles.to_str().unwrap(),
        "--vkey-file",
        key.to_str().unwrap(),
        "--leaf",
        leaf.to_str().unwrap(),
        "--index",
        &last,
    ]);
}

fn root_of(note: &str) -> String {
    std::fs::read_to_string(note).unwrap().lines().nth(2).unwrap().to_owned()
}

/// Writes the log's public key beside an archive.
pub fn write_key(world: &World) -> PathBuf {
    let key = world.folder.path().join("log.pub");
    std::fs::write(&key, format!("{}\n", super::fixture::key())).unwrap();
    key
}

#[tokio::test]
async fn other_readers_agree_on_an_archive_of_many_producers() {
    let (world, _) = World::honest().await;
    let key = write_key(&world);
    let report = world.copy().verify().await;
    let archive = world.archive();
    let (leaves, rows, proven) = (report.leaves, report.rows, report.proven_facts);
    tokio::task::spawn_blocking(move || ask_others(&archive, &key, leaves, rows, proven)).await.unwrap();
    // An oracle that finds nothing wrong with anything would be none.
    let copy = world.copy();
    let spend = copy.segments("spend").remove(0);
    let mut bytes = copy.read(&spend);
    bytes[100] ^= 1;
    copy.write(&spend, &bytes);
    let key = world.folder.path().join("log.pub");
    if let Some(python) = component("BURSAR_TEST_PYTHON") {
        let run = Command::new(python).arg(oracle()).arg(&copy.root).arg(key).output().unwrap();
        assert!(!run.status.success(), "the oracle believes an altered archive");
    }
}

#[test]
fn the_product_proves_what_it_did() {
    let place = Place::new("[archive]\nseal_seconds = 1\n");
    place.write("policy.toml", include_str!("../../src/starter_policy.toml"));
    let up = place.up();
    place.run(&["sql", "SELECT count(*) FROM requests"]);
    wait_for("a query to be sealed", || {
        let sealed = place.data().join("archive/segments");
        let lanes = std::fs::read_dir(sealed).ok()?.count();
        (lanes >= 2).then_some(())
    });
    up.stop();
    // A second life goes on in the same log.
    let up = place.up();
    let key = place.key("research");
    let answer = call(&place, &key);
    let id = wait_for("the request to be sealed", || {
        let (ok, out, _) =
            place.try_run(&["prove", &answer, "--out", place.data().join("e.json").to_str().unwrap()]);
        (ok && out.contains("Wrote")).then(|| answer.clone())
    });
    // It dies at work. Nothing that it left behind is a fault, and the next life goes on; `verify` may look at any time.
    let mut up = up;
    up.kill();
    let up = place.up();
    place.run(&["sql", "SELECT count(*) FROM requests"]);
    wait_for("the archive to hold while it is written", || place.try_run(&["verify"]).0.then_some(()));
    // The next shim's first fact says whose spool it took over.
    call(&place, &key);
    completeness(&place);
    up.stop();

    let log_pub = place.data().join("log.pub");
    assert_eq!(mode(&place.data().join("log.key")), 0o600);
    let archive = place.data().join("archive");
    let report: Value = serde_json::from_str(&place.run(&["verify", "--columns", "--json"])).unwrap();
    assert_eq!(report["complete"], true, "{report:#}");
    let number = |name: &str| report[name].as_u64().unwrap();
    ask_others(&archive, &log_pub, number("leaves"), number("rows"), number("proven_facts"));
    let newest = place.data().join("checkpoints/log/checkpoint");
    let (archive, log_pub, newest) =
        (archive.to_str().unwrap(), log_pub.to_str().unwrap(), newest.to_str().unwrap());
    let whole = place.run(&["verify", archive, "--key", log_pub, "--trusted-checkpoint", newest]);
    assert!(whole.contains("is contained"), "{whole}");

    let bundle = place.data().join("e.json");
    let text = place.run(&["verify", "--bundle", bundle.to_str().unwrap(), "--key", log_pub]);
    assert!(text.contains(&id) && text.contains("RequestRefused"), "{text}");
    let keys = [std::fs::read_to_string(log_pub).unwrap().trim().to_owned()];
    if let Some(proved) = follow_recipe(&bundle, &keys) {
        assert_eq!(proved.unwrap(), ["RequestRefused"]);
    }

    // What does not hold ends with 1, what cannot be asked with 2.
    let object = find(Path::new(archive), "parquet");
    let mut bytes = std::fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let (ok, out, error) = place.try_run(&["verify", archive, "--key", log_pub]);
    let name = object.strip_prefix(archive).unwrap().to_str().unwrap();
    assert!(!ok && out.contains("altered") && out.contains(name), "{out}");
    assert!(error.contains("1 altered"), "{error}");
    let (ok, _, error) = place.try_run(&["verify", "/nowhere/at/all", "--key", log_pub]);
    assert!(!ok && error.contains("no folder"), "{error}");
}

/// The shim that died is named, with its successor at work and after; the metrics have a place for all that alerts use.
fn completeness(place: &Place) {
    let open = || {
        let report: Value = serde_json::from_str(&place.run(&["gaps", "--json"])).unwrap();
        let rows = report["rows"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["finding"] == "open_end" && row["role"] == "shim")
    };
    let row = wait_for("the dead shim to be named", open);
    assert!(row["detail"].as_str().unwrap().contains("a successor took over"), "{row}");
    let text = place.run(&["gaps", "--since", "2026-01-01"]);
    assert!(text.contains("open_end") && text.contains(row["producer"].as_str().unwrap()), "{text}");
    assert!(!place.run(&["gaps", "--since", "2100-01-01"]).contains("open_end"));
    let (ok, _, error) = place.try_run(&["gaps", "--since", "yesterday"]);
    assert!(!ok && error.contains("expected 2026-11-03"), "{error}");
    let (_, page) = wait_for("a first look at completeness", || {
        Some(get(place.admin, "/metrics"))
            .filter(|(_, page)| !page.contains("bursar_gap_looked_at_seconds 0"))
    });
    let rules = include_str!("../../deploy/alerts.yaml");
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: Vec<&str> = words.filter(|word| word.starts_with("bursar_")).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("\n# TYPE {name} ")) || page.starts_with(&format!("# TYPE {name} ")),
            "{name}"
        );
    }
}

/// Asks for a model that is not there; the refusal names the request.
pub fn call(place: &Place, key: &str) -> String {
    let body = "{\"model\":\"no-such-model\",\"messages\":[]}";
    let mut stream = std::net::TcpStream::connect(place.shim).unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    wait_for("the refusal to be on record", || {
        let rows = place.sql("SELECT request FROM requests WHERE kind = 'RequestRefused'");
        rows.first().and_then(|row| row["request"].as_str()).map(str::to_owned)
    })
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn find(folder: &Path, extension: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                return path;
            }
        }
    }
    panic!("no file ends in {extension}");
}
