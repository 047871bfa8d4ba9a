//! Completeness: each finding is named with its producer, what is in order is not, and the metrics say the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_query::{Format, GapsRequest, Limits, Watch};
use bursar_schemas::archive::segment_key;
use bursar_schemas::avro::Micros;
use bursar_schemas::columns::Standings;
use bursar_schemas::facts::*;
use bursar_schemas::ids::{Digest, ProducerId, Signature};
use bursar_schemas::ports::Journal as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::support::*;

const MINUTE: i64 = 60_000_000;

fn opening(at: i64, predecessor: Option<u8>) -> ProducerOpened {
    ProducerOpened {
        head: head(at),
        public_key: Digest([1; 32]),
        deployment_key: Digest([2; 32]),
        certificate: Signature([3; 64]),
        version: "0".to_owned(),
        predecessor: predecessor.map(|it| ProducerId([it; 16])),
    }
}

fn signed(at: i64, last: u64, ended: bool) -> ProducerHead {
    ProducerHead { head: head(at), last, hash: Digest([4; 32]), signature: Signature([5; 64]), ended }
}

fn fact(at: i64) -> RequestOpened {
    RequestOpened { head: head(at), ..opened(&about(1, NOW)) }
}

/// Producer 1 died after two facts that no head covers and 2 took over; 3 ended well; 4 has been silent; 5 is at work.
fn world() -> World {
    let mut world = World::new();
    let early = NOW - 10 * MINUTE;
    world.write(1, REQUESTS, opening(early, None));
    world.write(1, REQUESTS, fact(early));
    world.write(1, REQUESTS, signed(early + 1, 1, false));
    world.write(1, REQUESTS, fact(early + 2));
    world.write(1, REQUESTS, fact(early + 3));
    world.write(3, REQUESTS, opening(early + 4, None));
    world.write(3, REQUESTS, signed(early + 5, 0, true));
    world.write(4, REQUESTS, opening(early + 6, None));
    world.skip(4, REQUESTS, 3);
    world.write(4, REQUESTS, fact(NOW - 2 * MINUTE));
    world.write(2, REQUESTS, opening(NOW - MINUTE, Some(1)));
    world.write(5, REQUESTS, opening(NOW, None));
    // Late by more than a minute, and by less.
    world.write(5, REQUESTS, fact(NOW - MINUTE - 1));
    world.write(5, REQUESTS, fact(NOW - MINUTE));
    world.write_numbered(5, 1, REQUESTS, fact(NOW - MINUTE));
    world
}

async fn report(service: &bursar_query::QueryService, since: Option<Micros>) -> Vec<String> {
    let request = GapsRequest { since, brief: true };
    let answer = service.gaps("test", &request, Limits::default()).await.unwrap();
    let mut out = Vec::new();
    answer.write(Format::Csv, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().skip(1).map(|line| line.split(',').take(6).collect::<Vec<_>>().join(",")).collect()
}

fn row(producer: u8, finding: &str, count: u64) -> String {
    let role = if producer == 0 { "" } else { "shim" };
    let producer = if producer == 0 { String::new() } else { format!("{producer:02x}").repeat(16) };
    format!("requests,0,{producer},{role},{finding},{count}")
}

#[tokio::test]
async fn every_finding_is_named_with_its_producer_and_nothing_else_is() {
    let world = world();
    let sealed = store();
    seal(&sealed, &world.journal(), REQUESTS, &[4, 9]).await;
    let service = Arc::new(service(&sealed, Some(&world)).await);
    let expected = [
        row(5, "duplicate", 1),
        row(4, "gap", 3),
        row(5, "late", 1),
        row(1, "open_end", 2),
        row(4, "open_end", 5),
    ];
    assert_eq!(report(&service, None).await, expected);
    let view = "SELECT topic, \"partition\", producer, role, finding, \"count\" FROM gaps WHERE found_by = 'records' \
                ORDER BY topic, \"partition\", finding, since";
    let view = run(&service, view).await.unwrap();
    assert_eq!(view.lines().skip(1).collect::<Vec<_>>(), expected);
    let recent = report(&service, Some(Micros(NOW - MINUTE - 1))).await;
    assert_eq!(recent, [row(5, "duplicate", 1), row(5, "late", 1)]);
    let states = "SELECT producer, state, unproven FROM producers ORDER BY producer";
    let states = run(&service, states).await.unwrap();
    let states: Vec<&str> = states.lines().skip(1).map(|line| &line[30..]).collect();
    assert_eq!(states, ["01,replaced,2", "02,open,1", "03,ended,0", "04,open,5", "05,open,3"]);
}

#[tokio::test]
async fn offsets_without_a_record_and_recorded_findings_are_in_it_and_the_metrics_agree() {
    let mut world = World::new();
    let lane = SPEND;
    world.write(1, lane, reserved(&about(1, NOW), 1));
    let finding = Finding {
        head: head(NOW),
        kind: FindingKind::Forged,
        topic: "spend".to_owned(),
        partition: 0,
        offset: 7,
        subject: Some(ProducerId([9; 16])),
        first: 3,
        last: 5,
        detail: "a running hash".to_owned(),
    };
    world.write(1, REQUESTS, finding);
    let sealed = store();
    let generation = world.journal().generation(lane.topic).await.unwrap();
    // A segment whose first ten offsets were gone.
    let mut records = world.journal().records(lane);
    records[0].offset = 10;
    let (_, bytes) = segment(generation, lane, 0, records, &mut Standings::new());
    sealed.put(&Path::from(segment_key(generation, lane, 0)), bytes.into()).await.unwrap();
    let service = Arc::new(service(&sealed, Some(&world)).await);
    let found = report(&service, None).await;
    let forged = format!("spend,0,{},,forged,3", "09".repeat(16));
    assert_eq!(found, [forged, "spend,0,,,lost,10".to_owned()]);
    let watch = Watch::start(&service, Duration::from_secs(86_400), Duration::from_millis(50));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = watch.metrics();
        let said = ["forged\"} 3", "lost\"} 10"]
            .iter()
            .all(|it| text.contains(&format!("bursar_gap_facts{{topic=\"spend\",finding=\"{it}")));
        if said {
            assert!(text.contains("bursar_gap_facts{topic=\"limits\",finding=\"gap\"} 0"), "{text}");
            assert!(text.contains("bursar_gap_places{topic=\"spend\",finding=\"lost\"} 1"), "{text}");
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
