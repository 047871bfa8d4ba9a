//! One call that may be billed: what it costs, and the order bill first, answer second.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, StreamBody};
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::answer::{self, Names};
use super::asked::{Chat, Embeddings, Generated};
use super::bill::{BillLine, BillOutcome};
use super::commands::{Commands, Hang};
use super::prices::{LeaveCharge, ModelPrices, Tokens};
use super::server::{Body, Refusal, Shared, json};
use super::stream::{self, Watch};
use crate::seed;

/// What is known of a call besides its body.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) names: &'a Names,
    pub(crate) headers: &'a HeaderMap,
}

impl Call<'_> {
    /// Answers a request for a chat completion.
    pub(crate) async fn chat(&self, chat: Chat) -> Result<Response<Body>, Refusal> {
        let prices = self.prices(&chat.model)?;
        let generated = chat.generate(&prices)?;
        let mut line = self.line(&chat.commands, &chat.model, generated.tokens, &prices);
        line.stream = chat.stream;
        if generated.capped {
            line.outcome = BillOutcome::Capped;
        }
        self.charge(&chat.commands, &mut line).await?;
        if chat.stream {
            // From here on a client may leave.
            let watch = self.watch(line, prices, &generated);
            self.wait(&chat.commands).await;
            return self.streamed(&chat, &generated, watch);
        }
        self.wait(&chat.commands).await;
        let whole = answer::completion(self.names, &chat, &generated).map_err(|error| internal(&error))?;
        Ok(unstreamed(&chat.commands, whole))
    }

    /// Answers a request for embeddings.
    pub(crate) async fn embeddings(&self, asked: Embeddings) -> Result<Response<Body>, Refusal> {
        let prices = self.prices(&asked.model)?;
        let tokens = asked.tokens()?;
        let mut line = self.line(&asked.commands, &asked.model, tokens, &prices);
        self.charge(&asked.commands, &mut line).await?;
        self.wait(&asked.commands).await;
        Ok(unstreamed(&asked.commands, answer::embeddings(&asked, tokens)))
    }

    fn prices(&self, model: &str) -> Result<ModelPrices, Refusal> {
        self.shared.config().prices.get(model).copied().ok_or_else(|| {
            Refusal::of(StatusCode::NOT_FOUND, "model_not_found", format!("there is no model {model:?}"))
        })
    }

    /// The request's name on the bill: its client's own before any that was made on the way.
    fn line(&self, commands: &Commands, model: &str, tokens: Tokens, prices: &ModelPrices) -> BillLine {
        let header = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        let id = header("x-stand-in-id").or(commands.id.as_deref()).or_else(|| header("x-request-id"));
        BillLine {
            id: id.unwrap_or(&self.names.answer).to_owned(),
            client_request: header("x-client-request-id").map(str::to_owned),
            answer: self.names.answer.clone(),
            model: model.to_owned(),
            stream: false,
            prompt: tokens.prompt,
            cached: tokens.cached,
            completion: tokens.completion,
            amount_pico: self.shared.config().charge.of(prices.amount(tokens)),
            outcome: BillOutcome::Answered,
        }
    }

    /// Fails as asked or drawn; else puts the request on the bill, before anything is sent.
    async fn charge(&self, commands: &Commands, line: &mut BillLine) -> Result<(), Refusal> {
        if let Some(status) = commands.status.or_else(|| self.drawn_error(line)) {
            return Err(Refusal::injected(status));
        }
        match (commands.hang, commands.cut_after_chunks) {
            (Some(Hang::Unbilled), _) => {
                self.shared.bill.count(|totals| totals.hung += 1);
                return std::future::pending().await;
            }
            (Some(Hang::Billed), _) => line.outcome = BillOutcome::Hung,
            (None, Some(_)) => line.outcome = BillOutcome::Cut,
            (None, None) => {}
        }
        self.shared.bill.append(line).map_err(|error| internal(&error))?;
        if commands.hang.is_some() {
            return std::future::pending().await;
        }
        Ok(())
    }

    /// The status of an error that the seed draws for this request; one and the same request always fails.
    fn drawn_error(&self, line: &BillLine) -> Option<u16> {
        let config = self.shared.config();
        if config.error_rate_per_mille == 0 {
            return None;
        }
        let named = line.id != line.answer;
        let name = if named { line.id.clone() } else { format!("{} {}", line.prompt, line.completion) };
        let drawn = seed::of_text(config.seed, &format!("{} {name}", line.model));
        let kind = usize::from(drawn.to_le_bytes()[7] % 3);
        (drawn % 1000 < config.error_rate_per_mille).then_some([429, 500, 503][kind])
    }

    async fn wait(&self, commands: &Commands) {
        let delay = commands.first_byte.unwrap_or(self.shared.config().first_byte_delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    fn watch(&self, line: BillLine, prices: ModelPrices, generated: &Generated) -> Watch {
        let config = self.shared.config();
        let (charge, tokens) = (config.charge, generated.tokens);
        let refund = move |unsent: u64| {
            let sent = Tokens { completion: tokens.completion.saturating_sub(unsent), ..tokens };
            BillLine {
                prompt: 0,
                cached: 0,
                completion: unsent,
                amount_pico: charge.of(prices.amount(sent)).saturating_sub(line.amount_pico),
                outcome: BillOutcome::Left,
                ..line.clone()
            }
        };
        let refund: Option<Box<dyn Fn(u64) -> BillLine + Send>> = match config.on_leave {
            LeaveCharge::Whole => None,
            LeaveCharge::Generated => Some(Box::new(refund)),
        };
        Watch::new(Arc::clone(&self.shared.bill), refund, tokens.completion)
    }

    fn streamed(&self, chat: &Chat, generated: &Generated, watch: Watch) -> Result<Response<Body>, Refusal> {
        let config = self.shared.config();
        let delay: Duration = chat.commands.chunk.unwrap_or(config.chunk_delay);
        let pace = (config.tokens_per_chunk, delay);
        let body =
            stream::body(self.names, chat, generated, pace, watch).map_err(|error| internal(&error))?;
        let mut response = Response::new(Either::Right(StreamBody::new(body).boxed_unsync()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::of(StatusCode::INTERNAL_SERVER_ERROR, "stand_in_internal", error.to_string())
}

/// An answer in one piece, or its first half where it is to be cut.
fn unstreamed(commands: &Commands, whole: Bytes) -> Response<Body> {
    if commands.cut_after_chunks.is_none() {
        return json(whole);
    }
    let mut response = json(Bytes::new());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    *response.body_mut() = Either::Right(StreamBody::new(stream::broken(&whole)).boxed_unsync());
    response
}
