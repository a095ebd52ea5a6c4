//! Tokens, and the runs of gateways for which they may be used.

use omniflow_domain::error::ErrorCode;
use omniflow_domain::gateway::GatewayState;
use omniflow_domain::token::Token;

use super::presence_tests::{World, id, token};

fn refused(world: &World, token: &Token, gateway: &str, run: u64) -> Option<ErrorCode> {
    world.fleet.admit(token, &id(gateway, run)).err().map(|error| error.code())
}

#[test]
fn token_is_valid_for_the_gateways_that_it_lists() {
    let world = World::new();
    let bound = token(1, &["edge-1", "eu-*"], None);
    for (gateway, expected) in
        [("edge-1", None), ("eu-7", None), ("edge-10", Some(ErrorCode::GatewayNotPermitted))]
    {
        assert_eq!(refused(&world, &bound, gateway, 1), expected, "{gateway}");
        let records = world.fleet.check_sender(&bound, &id(gateway, 1)).err().map(|error| error.code());
        assert_eq!(records, expected, "{gateway}");
    }
    assert_eq!(world.fleet.refusals()[0], ("gateway_not_permitted", 2));
}

#[tokio::test]
async fn run_belongs_to_the_token_that_it_was_first_seen_with() {
    let world = World::new();
    let (own, other, pattern) = (token(1, &[], None), token(2, &[], None), token(3, &["edge*"], None));
    world.polled(&own, 1, 9);
    for forger in [&other, &pattern] {
        assert_eq!(refused(&world, forger, "edge", 1), Some(ErrorCode::GatewayOfOtherToken));
        let records = world.fleet.check_sender(forger, &id("edge", 1)).err().map(|error| error.code());
        assert_eq!(records, Some(ErrorCode::GatewayOfOtherToken));
    }
    assert_eq!(refused(&world, &own, "edge", 1), None);
    assert_eq!(refused(&world, &token(4, &["edge"], None), "edge", 1), None, "an owner has permitted it");
}

#[tokio::test]
async fn token_may_take_over_a_run_whose_token_is_no_longer_valid() {
    for is_revoked in [false, true] {
        let world = World::new();
        let (old, new) = (token(1, &[], Some(10)), token(2, &[], None));
        world.polled(&old, 1, 9);
        assert_eq!(refused(&world, &new, "edge", 1), Some(ErrorCode::GatewayOfOtherToken));
        if is_revoked {
            world.fleet.token_revoked(&old);
        } else {
            world.seconds(10);
        }
        world.polled(&new, 1, 10);
        assert_eq!(world.counted().await, (true, vec![(1, GatewayState::InStep)]));
    }
}

#[tokio::test]
async fn forged_newer_run_hides_no_gateway() {
    let world = World::new();
    let (own, other) = (token(1, &["edge"], None), token(2, &[], None));
    let open = world.poll(&own, 1, 9);
    world.fleet.note_progress(&id("edge", 1), false);
    drop(open);
    world.seconds(1);
    let _forged = world.poll(&other, 2, 10);
    world.seconds(120);
    let expected = vec![(1, GatewayState::Silent), (2, GatewayState::InStep)];
    assert_eq!(world.counted().await, (false, expected));
}

#[test]
fn one_token_cannot_crowd_out_the_gateways_of_others() {
    let world = World::new();
    let (own, other) = (token(1, &[], None), token(2, &[], None));
    world.polled(&own, 1, 9);
    for run in 0..1_000 {
        assert_eq!(refused(&world, &other, "invented", run), None, "{run}");
    }
    assert_eq!(refused(&world, &other, "invented", 1_000), Some(ErrorCode::TooManyGateways));
    assert_eq!(refused(&world, &other, "invented", 999), None, "a known run");
    assert_eq!(refused(&world, &own, "edge", 2), None);
    assert_eq!(world.fleet.list(None, 9)[0].0, id("edge", 1));
    assert_eq!(world.fleet.refusals()[2], ("too_many_gateways", 1));
}

#[test]
fn runs_that_were_replaced_make_room_for_new_ones() {
    let world = World::new();
    let own = token(1, &[], None);
    for run in 0..1_100 {
        drop(world.poll(&own, run, 9));
        world.seconds(1);
    }
    assert_eq!(world.fleet.list(None, 9).len(), 1);
}

#[test]
fn control_plane_has_a_maximum_of_gateways() {
    let world = World::new();
    for n in 0..10 {
        for run in 0..1_000 {
            assert_eq!(refused(&world, &token(n, &[], None), &format!("edge-{n}"), run), None);
        }
    }
    assert_eq!(refused(&world, &token(11, &[], None), "edge", 1), Some(ErrorCode::TooManyGateways));
    assert_eq!(world.now().0, 1_000);
}
