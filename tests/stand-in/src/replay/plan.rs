//! What each request of a replay is: a pure function of the seed, the row and its number.

use bytes::Bytes;
use serde_json::json;

use super::ReplayConfig;
use crate::seed::Choices;
use crate::trace::Row;

/// One request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) team: String,
    pub(super) key: String,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) leave: bool,
    pub(super) row: Row,
    pub(super) max_tokens: Option<u64>,
    pub(super) body: Bytes,
}

/// The request for a row; none when there is no team or model to draw.
pub(super) fn request(config: &ReplayConfig, index: usize, row: Row) -> Option<Planned> {
    let number = config.first_number.saturating_add(u64::try_from(index).ok()?);
    let mut choices = Choices::new(config.seed, number);
    let team = choices.one_of(&config.teams)?;
    let model = choices.one_of(&config.models)?;
    let leave = choices.per_mille(config.leave_per_mille);
    let stream = choices.per_mille(config.stream_per_mille) || leave;
    let ask_usage = choices.per_mille(config.ask_usage_per_mille);
    let id = format!("r-{number:06}");
    let mut body = json!({
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a stand-in."},
            {"role": "user", "content": text(&id, row, config.bytes_per_token)},
        ],
    });
    if let Some(cap) = config.max_tokens {
        body["max_completion_tokens"] = cap.into();
    }
    if stream {
        body["stream"] = true.into();
    }
    if stream && ask_usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    Some(Planned {
        number,
        id,
        team: team.team.clone(),
        key: team.key.clone(),
        model: model.clone(),
        stream,
        leave,
        row,
        max_tokens: config.max_tokens,
        body: Bytes::from(body.to_string()),
    })
}

/// Commands for the stand-in, padded to so many bytes for each input token.
fn text(id: &str, row: Row, bytes_per_token: u64) -> String {
    const PADDING: &str = " the quick brown fox jumps over the lazy dog and";
    let mut text = format!(
        "stand-in id={id} prompt_tokens={} completion_tokens={}",
        row.context_tokens, row.generated_tokens
    );
    let length = row.context_tokens.saturating_mul(bytes_per_token);
    let missing = usize::try_from(length).unwrap_or(0).saturating_sub(text.len());
    text.push_str(&PADDING.repeat(missing.div_ceil(PADDING.len())));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::super::TeamKey;
    use super::*;

    fn config(seed: u64) -> ReplayConfig {
        let team = |name: &str| TeamKey { team: name.to_owned(), key: format!("key-{name}") };
        ReplayConfig {
            seed,
            teams: vec![team("a"), team("b"), team("c")],
            models: vec!["m".to_owned(), "n".to_owned()],
            ..ReplayConfig::default()
        }
    }

    fn row(context_tokens: u64) -> Row {
        Row { at: Duration::ZERO, context_tokens, generated_tokens: 9 }
    }

    #[test]
    fn a_seed_fixes_every_choice() {
        let all =
            |seed| (0..200).map(|index| request(&config(seed), index, row(50)).unwrap()).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn the_shares_are_as_configured() {
        let all: Vec<_> = (0..10_000).map(|index| request(&config(1), index, row(5)).unwrap()).collect();
        let count = |test: fn(&Planned) -> bool| all.iter().filter(|planned| test(planned)).count();
        assert!((4_950..=5_350).contains(&count(|planned| planned.stream)), "half, and those who leave");
        assert!((240..=360).contains(&count(|planned| planned.leave)));
        assert_eq!(count(|planned| planned.leave && !planned.stream), 0);
        for team in ["a", "b", "c"] {
            let share = all.iter().filter(|planned| planned.team == team).count();
            assert!((3_100..=3_600).contains(&share), "{team}: {share}");
        }
    }

    #[test]
    fn the_text_has_room_for_its_tokens() {
        for tokens in [0, 1, 77, 4_096, 14_050] {
            let text = text("r-000001", row(tokens), 4);
            assert!(u64::try_from(text.len()).unwrap() >= 4 * tokens, "{tokens}");
        }
    }
}
