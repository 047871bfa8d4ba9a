//! `bursar gaps`: what is missing, doubled, late, unreadable or unproven, by producer and topic.

use axum::http::Method;

use super::keys::escape;
use super::sql::{show, word};
use crate::cli::{Gaps, Output, Place};
use crate::door::Door;
use crate::exit::Outcome;

pub(crate) async fn run(place: &Place, gaps: Gaps) -> Outcome {
    let format = if gaps.json { Output::Json } else { gaps.format.format };
    let mut path = format!("/v1/gaps?format={}", word(format));
    if let Some(since) = &gaps.since {
        path.push_str(&format!("&since={}", escape(since)));
    }
    let door = Door::open(place).await?;
    let answer = door.client.raw(Method::GET, &path, None, "*/*").await?;
    door.close().await?;
    show(&answer)
}
