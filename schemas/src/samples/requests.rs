//! Samples of topics `requests` and `routes`.

use super::{REQUEST, about, dollars, head, some, text};
use crate::avro::Micros;
use crate::facts::{
    AttemptEnded, AttemptOutcome, Candidate, CandidateVerdict, ContentDropped, ContentKept, DropReason,
    Durability, Ending, Endpoint, Fact, Finding, FindingKind, QueryRan, RecordsRemoved, RefusalCode,
    RequestClosed, RequestOpened, RequestRefused, Role, RouteDecided, RouteReason,
};
use crate::ids::{Digest, Generation, ProducerId};

pub(super) fn facts() -> [Fact; 8] {
    [
        RequestOpened {
            head: head(Role::Shim, 10),
            about: about(),
            endpoint: Endpoint::Embeddings,
            model: text("gpt-5-mini"),
            stream: true,
            body_bytes: 2_048,
            body_digest: Digest([0x77; 32]),
            durability: Durability::Overlapped,
        }
        .into(),
        RequestClosed {
            head: head(Role::Shim, 11),
            about: about(),
            ending: Ending::PresumedAbandoned,
            status: 200,
            attempts: 2,
            answer_bytes: 4_096,
            first_byte_us: Some(350_000),
            duration_us: 1_250_000,
            settled: dollars(123_456_789),
            opened_by: Some(ProducerId([0xa0; 16])),
        }
        .into(),
        refused(),
        QueryRan {
            head: head(Role::Query, 13),
            by: text("finance"),
            statement: text("SELECT 1"),
            outcome: text("finished"),
            rows: 1,
            duration_us: 900,
        }
        .into(),
        Finding {
            head: head(Role::Archiver, 14),
            kind: FindingKind::Gap,
            topic: text("spend"),
            partition: 3,
            offset: 77,
            subject: Some(ProducerId([0xa0; 16])),
            first: 5,
            last: 9,
            detail: text("5 numbers never came"),
        }
        .into(),
        kept(),
        dropped(),
        removed(),
    ]
}

fn refused() -> Fact {
    RequestRefused {
        head: head(Role::Shim, 12),
        request: REQUEST,
        about: Some(about()),
        model: some("gpt-5-mini"),
        status: 402,
        code: RefusalCode::BudgetExceeded,
        budget: some("acme/search"),
        limit: Some(dollars(10_000_000_000_000)),
        settled: Some(dollars(9_000_000_000_000)),
        reserved: Some(dollars(900_000_000_000)),
        needed: Some(dollars(200_000_000_000)),
        resets_at: Some(Micros(1_796_083_200_000_000)),
        retryable: true,
        limits_age_ms: Some(120),
        detail: text("the budget of acme/search is spent"),
    }
    .into()
}

pub(super) fn routes() -> [Fact; 2] {
    let candidate = |provider: &str, model: &str, verdict| Candidate {
        provider: text(provider),
        model: text(model),
        verdict,
    };
    [
        RouteDecided {
            head: head(Role::Shim, 20),
            about: about(),
            attempt: 2,
            model: text("fast"),
            candidates: vec![
                candidate("openai", "gpt-5-mini", CandidateVerdict::Tried),
                candidate("mistral", "mistral-small", CandidateVerdict::Chosen),
            ],
            chosen: Some(1),
            reason: RouteReason::FallbackTimeout,
        }
        .into(),
        AttemptEnded {
            head: head(Role::Shim, 21),
            about: about(),
            attempt: 2,
            provider: text("mistral"),
            model: text("mistral-small"),
            served_model: some("mistral-small-2506"),
            outcome: AttemptOutcome::Answered,
            status: Some(200),
            provider_request: some("req_01"),
            finish_reason: some("stop"),
            first_byte_us: Some(210_000),
            duration_us: 990_000,
            answer_bytes: 4_097,
        }
        .into(),
    ]
}

fn kept() -> Fact {
    ContentKept {
        head: head(Role::Shim, 16),
        about: about(),
        subject: text("e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5"),
        object: text("contents/019a0000000170028003040506070809"),
        object_sha256: Digest([0xaa; 32]),
        object_bytes: 3_072,
        cut: true,
    }
    .into()
}

fn dropped() -> Fact {
    let (head, about) = (head(Role::Shim, 17), about());
    ContentDropped { head, about, drop_reason: DropReason::StoreFailed }.into()
}

fn removed() -> Fact {
    RecordsRemoved {
        head: head(Role::Archiver, 18),
        removed_topic: text("routes"),
        removed_generation: Generation([0x6e; 16]),
        removed_partition: 2,
        removed_first: 4_100,
        removed_last: 8_199,
        removed_rows: 4_099,
        object: text("segments/6e6e/routes/00002/00000000000000004100.parquet"),
        object_sha256: Digest([0x88; 32]),
        rows_root: Digest([0x99; 32]),
        sealed_leaf: 31,
        retention_days: 400,
        author: text("grace"),
    }
    .into()
}
