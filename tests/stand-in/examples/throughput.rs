//! Prints how many instant answers per second the stand-in gives on this machine, client included:
//! `cargo run --release -p bursar-stand-in --example throughput`.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bursar_stand_in::provider::{StandIn, StandInConfig};
use bursar_stand_in::replay::{ReplayConfig, TeamKey, replay};
use bursar_stand_in::trace::Row;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bill = std::env::temp_dir().join(format!("stand-in-bill-{}", std::process::id()));
    for (name, stream_per_mille, bill) in
        [("unstreamed", 0, None), ("unstreamed, billed", 0, Some(bill.clone())), ("streamed", 1000, None)]
    {
        let provider = StandIn::start(StandInConfig { bill, ..StandInConfig::default() }).await?;
        let config = ReplayConfig {
            base_url: provider.base_url.clone(),
            teams: vec![TeamKey { team: "load".to_owned(), key: "key".to_owned() }],
            models: vec!["gpt-4o-mini".to_owned()],
            stream_per_mille,
            leave_per_mille: 0,
            bytes_per_token: 1,
            ..ReplayConfig::default()
        };
        let rows = vec![Row { at: Duration::ZERO, context_tokens: 374, generated_tokens: 44 }; 200_000];
        let begin = Instant::now();
        let outcomes = replay(&config, &rows, |_, _| ControlFlow::Continue(())).await?;
        let took = begin.elapsed().as_millis().max(1);
        let served = outcomes.iter().filter(|outcome| outcome.served).count();
        let rate = u128::try_from(served)? * 1000 / took;
        println!("{name}: {served} served in {took} ms, {rate} requests/s");
    }
    std::fs::remove_file(bill)?;
    Ok(())
}
