//! What is done each second: signed heads, and leases that are not needed go back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::world::World;

/// Runs for ever.
pub(super) async fn run(world: Arc<World>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = world.now();
        for limits in &world.limits {
            world.give_back(limits, limits.turn(now));
        }
        if let Err(error) = world.recorder.record_heads(now) {
            tracing::warn!(%error, "signed heads were not taken");
        }
    }
}
