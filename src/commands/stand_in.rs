//! `bursar stand-in-provider`: the stand-in of demo and tests as a process of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bursar_stand_in::provider::{ModelPrices, StandIn, StandInConfig};

use crate::cli::StandInProvider;
use crate::exit::{Failure, Outcome};
use crate::print;

pub(crate) async fn run(command: StandInProvider) -> Outcome {
    let mut config = StandInConfig {
        listen: command.listen,
        bill: Some(command.bill),
        seed: command.seed,
        error_rate_per_mille: u64::from(command.errors_per_mille),
        first_byte_delay: Duration::from_millis(command.first_byte_milliseconds),
        ..StandInConfig::default()
    };
    if let Some(path) = &command.prices {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let prices: BTreeMap<String, (String, String)> =
            serde_json::from_str(&text).map_err(Failure::usage)?;
        config.prices.clear();
        for (model, (input, output)) in prices {
            let prices = ModelPrices::new(
                input.parse().map_err(Failure::usage)?,
                output.parse().map_err(Failure::usage)?,
            );
            config.prices.insert(model, prices);
        }
    }
    let running = StandIn::start(config).await?;
    print::out(&format!("stand-in provider listens on {}\n", running.base_url))?;
    super::serve::signal().await?;
    let totals = running.stop().await;
    print::out(&format!("billed {} of {} requests\n", totals.billed, totals.received))
}
