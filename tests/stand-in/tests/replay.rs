//! The replay against the stand-in: what clients got and what was billed agree to the pico-dollar.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bursar_stand_in::provider::{StandIn, StandInConfig, read_bill};
use bursar_stand_in::replay::{Ending, Outcome, ReplayConfig, ReplayError, TeamKey, UsageSeen, replay};
use bursar_stand_in::trace;

fn config(base_url: &str) -> ReplayConfig {
    let team = |name: &str| TeamKey { team: name.to_owned(), key: format!("key-of-{name}") };
    ReplayConfig {
        base_url: base_url.to_owned(),
        seed: 11,
        teams: vec![team("search"), team("support")],
        models: vec!["gpt-4o".to_owned(), "gpt-4o-mini".to_owned()],
        concurrency: 16,
        max_tokens: Some(100),
        bytes_per_token: 1,
        ..ReplayConfig::default()
    }
}

/// Pico-dollars for a request that was billed, by the price lists of 2026.
fn price(outcome: &Outcome) -> i128 {
    let (input, output) = match outcome.model.as_str() {
        "gpt-4o" => (2_500_000, 10_000_000),
        "gpt-4o-mini" => (150_000, 600_000),
        other => panic!("{other}"),
    };
    i128::from(outcome.prompt_tokens) * input + i128::from(outcome.completion_tokens.min(100)) * output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bill_is_the_sum_over_what_was_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bill");
    let stand_in = StandInConfig {
        bill: Some(path.clone()),
        error_rate_per_mille: 100,
        capture: 1,
        ..StandInConfig::default()
    };
    let provider = StandIn::start(stand_in).await.unwrap();
    let rows = &trace::builtin().unwrap()[..600];
    let mut reported = 0;
    let outcomes = replay(&config(&provider.base_url), rows, |progress, _| {
        reported += 1;
        assert_eq!((progress.done, progress.total), (reported, 600));
        ControlFlow::Continue(())
    })
    .await
    .unwrap();
    assert_eq!(outcomes.len(), 600);
    assert!(outcomes.iter().map(|outcome| outcome.number).eq(0..600));

    let counted = |ending| outcomes.iter().filter(|outcome| outcome.ending == ending).count();
    let (whole, left, refused) = (counted(Ending::Whole), counted(Ending::Left), counted(Ending::Refused));
    assert_eq!(
        whole + left + refused,
        600,
        "broken or unanswered: {:?}",
        outcomes.iter().find(|outcome| outcome.fault.is_some())
    );
    assert!(left > 0 && refused > 0);

    let mut billed: BTreeMap<String, i128> = BTreeMap::new();
    for line in read_bill(&path).unwrap() {
        assert!(billed.insert(line.id.clone(), line.amount_pico).is_none(), "{} is billed twice", line.id);
    }
    let served: BTreeMap<String, i128> = outcomes
        .iter()
        .filter(|outcome| outcome.served)
        .map(|outcome| (outcome.id.clone(), price(outcome)))
        .collect();
    assert_eq!(billed, served, "errors cost nothing, and who leaves pays the whole");
    assert_eq!(provider.captured()[0].path, "/v1/chat/completions");
    let totals = provider.stop().await;
    assert_eq!(totals.billed_pico, served.values().sum::<i128>());
    assert_eq!((totals.received, totals.failed), (600, u64::try_from(refused).unwrap()));

    let told =
        |outcome: &&Outcome| outcome.ending == Ending::Whole && (outcome.usage.is_some() || !outcome.stream);
    assert!(outcomes.iter().any(|outcome| outcome.usage.is_some() && outcome.stream));
    assert!(outcomes.iter().any(|outcome| outcome.usage.is_none() && outcome.ending == Ending::Whole));
    for outcome in outcomes.iter().filter(told) {
        let usage = UsageSeen {
            prompt_tokens: outcome.prompt_tokens,
            completion_tokens: outcome.completion_tokens.min(100),
        };
        assert_eq!(outcome.usage, Some(usage), "{}", outcome.id);
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.ending == Ending::Refused) {
        assert_eq!((outcome.error_code.as_deref(), outcome.served), (Some("stand_in_injected"), false));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_and_one_that_never_comes_are_told_apart() {
    let stand_in = StandInConfig { chunk_delay: Duration::from_secs(3600), ..StandInConfig::default() };
    let provider = StandIn::start(stand_in).await.unwrap();
    let stream = ReplayConfig {
        stream_per_mille: 1000,
        leave_per_mille: 0,
        timeout: Duration::from_secs(5),
        ..config(&provider.base_url)
    };
    let rows = &trace::builtin().unwrap()[..2];
    let go_on = |_: &_, _: &_| ControlFlow::Continue(());
    let outcomes = replay(&stream, rows, go_on).await.unwrap();
    assert!(
        outcomes.iter().all(|outcome| outcome.served && outcome.ending == Ending::Broken),
        "{outcomes:?}"
    );
    provider.stop().await;
    let outcomes = replay(&stream, rows, go_on).await.unwrap();
    assert!(
        outcomes.iter().all(|outcome| !outcome.served && outcome.ending == Ending::Unanswered),
        "{outcomes:?}"
    );
    assert!(outcomes.iter().all(|outcome| outcome.fault.is_some() && outcome.status.is_none()));
}

#[tokio::test]
async fn a_replay_ends_early_when_told_to() {
    let provider = StandIn::start(StandInConfig::default()).await.unwrap();
    let rows = &trace::builtin().unwrap()[..300];
    let stop = |progress: &bursar_stand_in::replay::Progress, _: &Outcome| {
        if progress.done == 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcomes = replay(&config(&provider.base_url), rows, stop).await.unwrap();
    assert_eq!(outcomes.len(), 40);
}

#[tokio::test]
async fn a_replay_without_a_gateway_or_a_team_does_not_begin() {
    let go_on = |_: &_, _: &_| ControlFlow::Continue(());
    for base_url in ["", "127.0.0.1:4000", "https://127.0.0.1/v1", "/v1"] {
        let error = replay(&config(base_url), &[], go_on).await.unwrap_err();
        assert_eq!(error, ReplayError::BaseUrl(base_url.to_owned()));
    }
    let nobody = ReplayConfig { teams: Vec::new(), ..config("http://127.0.0.1:1/v1") };
    assert_eq!(replay(&nobody, &[], go_on).await.unwrap_err(), ReplayError::Missing("a team"));
}
