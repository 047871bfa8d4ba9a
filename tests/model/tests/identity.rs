//! What tells states apart is enough: whichever of the states that count as one is met, the same may follow.
#![allow(clippy::print_stdout, reason = "the number of states belongs to the result")]

use std::collections::{BTreeSet, HashMap};

use bursar_model::{State, World};
use stateright::Model as _;

/// What may follow, by identity.
fn successors(world: &World, state: &State) -> BTreeSet<Vec<u8>> {
    let mut actions = Vec::new();
    world.actions(state, &mut actions);
    let next = actions.into_iter().filter_map(|action| world.next_state(state, action));
    // An event that changes nothing is none.
    next.map(|next| next.identity()).filter(|next| *next != state.identity()).collect()
}

#[test]
fn states_that_count_as_one_have_one_future() {
    let world = World::default();
    let (mut seen, mut steps, mut random) = (HashMap::new(), 0_usize, 1_u64);
    for _ in 0..20_000 {
        let mut state = world.init_states().remove(0);
        for _ in 0..40 {
            let follow = successors(&world, &state);
            let known = seen.entry(state.identity()).or_insert_with(|| follow.clone());
            let differ: Vec<_> = follow.symmetric_difference(known).collect();
            assert!(differ.is_empty(), "{state:#?}\nwas met before in another guise: {differ:?}");
            steps += 1;
            let mut actions = Vec::new();
            world.actions(&state, &mut actions);
            if actions.is_empty() {
                break;
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = usize::try_from(random >> 33).unwrap_or(0) % actions.len();
            let Some(next) = world.next_state(&state, actions.swap_remove(index)) else { break };
            state = next;
        }
    }
    println!("{} states, met {steps} times", seen.len());
    assert!(steps > 5 * seen.len(), "they were hardly ever met again");
}
