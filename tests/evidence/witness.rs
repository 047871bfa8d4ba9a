//! What a witness cosigned: kept by the product, checked by `verify`, and missed where somebody counts on it.

use std::path::Path;
use std::process::Command;

use bursar_query::evidence::Kind;
use bursar_schemas::evidence::{CHECKPOINT, SignerKey, VerifierKey, checkpoint_key, cosigned_key};
use serde_json::Value;

use super::fixture::{Copy, World, assert_named};
use super::harness::{Place, component, get, wait_for};
use super::product::{ask_others, call, follow_recipe};

const AT: u64 = 1_793_800_000;

/// Has a witness cosign the checkpoint of a size in a copy; the witness's key, and the object's name.
pub(crate) fn cosign(copy: &Copy, size: u64) -> (VerifierKey, String) {
    let witness = SignerKey::new("witness.example", &[3; 32]).unwrap();
    let note = String::from_utf8(copy.read(&checkpoint_key(size))).unwrap();
    let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let (key, line) = witness.cosign(&text, AT).unwrap();
    let name = cosigned_key(size, key.id());
    copy.write(&name, (note + &line).as_bytes());
    (key, name)
}

/// Sizes of the checkpoints that are kept.
pub(crate) fn sizes(copy: &Copy) -> Vec<u64> {
    let names = copy.names().into_iter();
    names.filter_map(|it| it.strip_prefix("log/checkpoints/").map(|size| size.parse().unwrap())).collect()
}

#[tokio::test]
async fn a_cosigned_checkpoint_says_how_far_nothing_is_cut_off() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let size = *sizes(&copy).last().unwrap();
    let (key, name) = cosign(&copy, size);
    // Who knows no witness checks what the log signed.
    let report = copy.verify().await;
    assert!(report.complete && report.witnesses.is_empty(), "{}", report.to_text());
    let report = copy.verify_with(|options| options.keys.push(key.clone())).await;
    assert!(report.complete, "{}", report.to_text());
    let witnessed = report.witnesses.first().unwrap();
    assert_eq!((witnessed.name.as_str(), witnessed.leaves), ("witness.example", size));
    let (text, at) = (report.to_text(), "2026-11-04T");
    for words in [
        format!("witness.example cosigned {size} of {size} leaves, last at {at}"),
        "and they are here: what it had seen by then is not cut off".to_owned(),
    ] {
        assert!(text.contains(&words), "{words}: {text}");
    }
    // It stands for itself, outside the archive.
    let note = copy.read(&name);
    let trusted = |options: &mut bursar_query::evidence::VerifyOptions| {
        options.keys.push(key.clone());
        options.trusted = Some(note);
    };
    let report = world.copy().verify_with(trusted).await;
    assert!(report.complete && report.to_text().contains("is contained"), "{}", report.to_text());
}

#[tokio::test]
async fn what_is_done_to_a_cosigned_checkpoint_is_named() {
    let (world, _) = World::honest().await;
    let newest = *sizes(&world.copy()).last().unwrap();
    let first = *sizes(&world.copy()).first().unwrap();
    let key = cosign(&world.copy(), newest).0;
    let with_key = |copy: Copy| {
        let key = key.clone();
        async move { copy.verify_with(|options| options.keys.push(key)).await }
    };
    // Whoever counts on a witness learns that it says nothing.
    let report = with_key(world.copy()).await;
    assert_named(&report, Kind::Unwitnessed, "witness.example", "excludes nothing");
    // An altered line, or none.
    let copy = world.copy();
    let (_, name) = cosign(&copy, newest);
    let text = String::from_utf8(copy.read(&name)).unwrap();
    let at = text.trim_end().len() - 9;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    copy.write(&name, format!("{}{other}{}", &text[..at], &text[at + 1..]).as_bytes());
    assert_named(&with_key(copy).await, Kind::Forged, &name, "does not hold");
    let copy = world.copy();
    copy.write(&name, &copy.read(&checkpoint_key(newest)));
    assert_named(&copy.verify().await, Kind::Altered, &name, "another size or witness");
    // Of another size than its name says.
    let copy = world.copy();
    let (_, old) = cosign(&copy, first);
    copy.write(&name, &copy.read(&old));
    assert_named(&copy.verify().await, Kind::Altered, &name, "another size or witness");
    // The newest part is cut off, and what the witness said is left.
    let copy = world.copy();
    cosign(&copy, newest);
    copy.delete(&checkpoint_key(newest));
    copy.write(CHECKPOINT, &copy.read(&checkpoint_key(first)));
    assert_named(&copy.verify().await, Kind::Missing, &checkpoint_key(newest), "cosigned and is not kept");
    // Signed by no key that was given.
    let copy = world.copy();
    cosign(&copy, newest);
    let text = String::from_utf8(copy.read(&name)).unwrap();
    copy.write(&name, text.replacen(&format!("\n{newest}\n"), &format!("\n0{newest}\n"), 1).as_bytes());
    assert_named(&copy.verify().await, Kind::Forged, &name, "size");
}

/// A witness by other hands, in a folder of its own.
struct Real {
    script: String,
    folder: tempfile::TempDir,
    url: String,
    key: String,
}

impl Real {
    fn start(script: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut real = Self { script, folder, url: String::new(), key: String::new() };
        let lines = real.run(&["start"]);
        let setting = |name: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {lines}")).to_owned()
        };
        (real.url, real.key) = (setting("URL="), setting("KEY="));
        real
    }

    /// `ACTION DIR MORE`.
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(arguments[0]).arg(self.folder.path()).args(&arguments[1..]);
        let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn name(&self) -> &str {
        self.key.split('+').next().unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // It may be stopped already.
        Command::new("bash").arg(&self.script).arg("stop").arg(self.folder.path()).status().ok();
    }
}

/// What the archiver says of the witness.
fn status(place: &Place, witness: &Real) -> Option<String> {
    let state: Value = serde_json::from_str(&place.run(&["status", "--format", "json"])).unwrap();
    let said = &state["roles"]["ingest"][format!("witness {}", witness.name())];
    said.as_str().map(str::to_owned)
}

/// Waits until the witness has cosigned more leaves than so many, and nothing is wrong; how many.
fn cosigned_above(place: &Place, witness: &Real, leaves: u64) -> u64 {
    wait_for("a cosignature", || {
        let said = status(place, witness)?;
        let size = said.strip_prefix("cosigned ")?.strip_suffix(" leaves")?;
        size.parse().ok().filter(|size| *size > leaves)
    })
}

fn fault(place: &Place, witness: &Real, words: &[&str]) {
    wait_for(&format!("a fault like {words:?}"), || {
        status(place, witness).filter(|said| words.iter().any(|words| said.contains(words)))
    });
    let (_, page) = get(place.admin, "/metrics");
    let line = format!("bursar_witness_fault{{witness=\"{}\"}} 1", witness.name());
    assert!(page.contains(&line), "{page}");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_real_witness_cosigns_what_the_product_seals_and_refuses_a_rollback() {
    let Some(script) = component("BURSAR_TEST_WITNESS") else { return };
    let witness = Real::start(script);
    let place = Place::new(&format!(
        "[archive]\nseal_seconds = 1\nheartbeat_seconds = 1\n[[archive.witnesses]]\nurl = \"{}\"\nkey = \"{}\"\n",
        witness.url, witness.key
    ));
    place.write("policy.toml", include_str!("../../src/starter_policy.toml"));
    let up = place.up();
    // Nobody has told it of the log.
    fault(&place, &witness, &["does not know this log"]);
    let log_pub = place.data().join("log.pub");
    witness.run(&["add", std::fs::read_to_string(&log_pub).unwrap().trim()]);
    let first = cosigned_above(&place, &witness, 0);
    // Away and back: sealing went on, and the newest checkpoint covers it.
    witness.run(&["stop"]);
    place.run(&["sql", "SELECT count(*) FROM requests"]);
    fault(&place, &witness, &["could not be reached"]);
    let archive = place.data().join("archive");
    wait_for("a checkpoint without a witness", || {
        let kept = std::fs::read_dir(archive.join("log/checkpoints")).unwrap();
        let newest = kept.filter_map(|it| it.unwrap().file_name().to_str()?.parse::<u64>().ok()).max();
        newest.filter(|newest| *newest > first + 1)
    });
    witness.run(&["start"]);
    let second = cosigned_above(&place, &witness, first + 1);
    evidence_of_a_request(&place, &witness);
    up.stop();
    let leaves = checked(&place, &witness);
    assert!(leaves >= second, "{leaves}");

    // The archive and its second place as they are now come back after more was cosigned.
    for folder in ["archive", "checkpoints"] {
        copy_folder(&place.data().join(folder), &place.data().join(format!("{folder}.old")));
    }
    let up = place.up();
    cosigned_above(&place, &witness, leaves + 2);
    up.stop();
    for folder in ["archive", "checkpoints"] {
        copy_folder(&place.data().join(format!("{folder}.old")), &place.data().join(folder));
    }
    let up = place.up();
    fault(&place, &witness, &["was rolled back: the witness has cosigned", "contradicts the witness"]);
    up.stop();
}

/// The evidence of a request shows that the witness saw the same history.
fn evidence_of_a_request(place: &Place, witness: &Real) {
    let request = call(place, "bk-unknown");
    let bundle = place.data().join("e.json");
    let (file, log_pub) = (bundle.to_str().unwrap(), place.data().join("log.pub"));
    let log_key = std::fs::read_to_string(&log_pub).unwrap().trim().to_owned();
    let text = wait_for("a cosigned bundle", || {
        if !place.try_run(&["prove", &request, "--out", file]).0 {
            return None;
        }
        let checked = ["verify", "--bundle", file, "--key", &log_key, "--witness", &witness.key];
        let (holds, text, _) = place.try_run(&checked);
        holds.then_some(text)
    });
    assert!(text.contains(&format!("was cosigned by {}", witness.name())), "{text}");
    if let Some(proved) = follow_recipe(&bundle, &[log_key, witness.key.clone()]) {
        assert_eq!(proved.unwrap(), ["RequestRefused"]);
    }
}

/// What `verify` says of the cosigned archive, and the leaves that the witness has cosigned.
fn checked(place: &Place, witness: &Real) -> u64 {
    let (archive, log_pub) = (place.data().join("archive"), place.data().join("log.pub"));
    let report: Value =
        serde_json::from_str(&place.run(&["verify", "--witness", &witness.key, "--json"])).unwrap();
    assert_eq!(report["complete"], true, "{report:#}");
    let leaves = report["witnesses"][0]["leaves"].as_u64().unwrap();
    let number = |name: &str| report[name].as_u64().unwrap();
    ask_others(&archive, &log_pub, number("leaves"), number("rows"), number("proven_facts"));
    // The second place has it as well, and it is a checkpoint to be trusted.
    let key: VerifierKey = witness.key.parse().unwrap();
    let copies = std::fs::read_dir(place.data().join("checkpoints/log/cosigned")).unwrap();
    let newest = copies.map(|it| it.unwrap().file_name().to_str().unwrap().parse().unwrap()).max().unwrap();
    let copied = place.data().join("checkpoints").join(cosigned_key(newest, key.id()));
    let text = place.run(&[
        "verify",
        archive.to_str().unwrap(),
        "--key",
        log_pub.to_str().unwrap(),
        "--key",
        &witness.key,
        "--trusted-checkpoint",
        copied.to_str().unwrap(),
    ]);
    assert!(text.contains("is contained") && text.contains("was cosigned by"), "{text}");
    // A witness that said nothing, and a key that is none.
    let stranger = SignerKey::new("stranger.example", &[3; 32]).unwrap();
    let cosigns = stranger.cosign("x\n", 1).unwrap().0.to_string();
    let (ok, out, error) = place.try_run(&["verify", "--witness", &cosigns]);
    assert!(!ok && out.contains("unwitnessed") && error.contains("1 unwitnessed"), "{out}{error}");
    let (ok, _, error) = place.try_run(&["verify", "--witness", &stranger.verifier().to_string()]);
    assert!(!ok && error.contains("signs notes"), "{error}");
    leaves
}
