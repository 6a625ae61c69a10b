//! The official JSON Schema test suite, drafts 7 and 2020-12.
//!
//! Every schema of the suite is refused with a reason, or random answers under it are valid by the word of another
//! implementation, and no instance that the suite calls invalid is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

use lossy_output::{Constraint, Limits, Vocabulary};
use lossy_testkit::toy_tokenizer::toy_tokenizer;
use lossy_tokenizer::EncodeOptions;
use serde_json::{Value, json};

const N_LOGITS: usize = 300;
const END: u32 = 257;
const ANSWERS: usize = 5;
/// An answer that is longer than this is cut off, and not judged.
const MOST_TOKENS: usize = 600;

/// One schema of the suite with its instances.
struct Case {
    name: String,
    draft: &'static str,
    schema: Value,
    tests: Vec<Value>,
}

fn suite() -> PathBuf {
    let suite = lossy_testkit::cache_home().join("lossy/json-schema-suite");
    assert!(
        suite.join("venv/bin/python").exists(),
        "the JSON Schema test suite is missing: run `python3 tools/fetch_json_schema_suite.py` first"
    );
    suite
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
    found.sort();
}

fn cases(suite: &Path, draft: &'static str, uri: &str) -> Vec<Case> {
    let mut paths = Vec::new();
    files(&suite.join(draft), &mut paths);
    let mut cases = Vec::new();
    for path in paths {
        let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for group in groups {
            let mut schema = group["schema"].clone();
            if let Some(fields) = schema.as_object_mut() {
                fields.entry("$schema").or_insert(uri.into());
            }
            let name = format!("{draft}/{}: {}", path.file_stem().unwrap().display(), group["description"]);
            cases.push(Case { name, draft, schema, tests: group["tests"].as_array().unwrap().clone() });
        }
    }
    cases
}

/// Numbers that repeat themselves.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }
}

/// A random answer that ends, or nothing. Long answers prefer what closes something.
fn answer(vocabulary: &Vocabulary, constraint: &Constraint, random: &mut Random) -> Option<String> {
    let mut mask = constraint.mask();
    let mut bytes = Vec::new();
    for n in 0..MOST_TOKENS {
        let mut logits = vec![0.0; N_LOGITS];
        mask.apply(&mut logits).unwrap();
        let allowed: Vec<u32> = (0..N_LOGITS as u32).filter(|&id| logits[id as usize] == 0.0).collect();
        if allowed.contains(&END) && (allowed.len() == 1 || random.below(3) == 0) {
            mask.accept(END).unwrap();
            return Some(String::from_utf8(bytes).expect("a complete answer is UTF-8"));
        }
        let closing: Vec<u32> =
            allowed.iter().copied().filter(|&id| b"\"}]".contains(&(id as u8)) && id < 256).collect();
        let readable: Vec<u32> =
            allowed.iter().copied().filter(|&id| (33..127).contains(&id) || id > 265).collect();
        let from = match () {
            () if n > 40 && !closing.is_empty() && random.below(3) > 0 => closing,
            () if !readable.is_empty() && random.below(8) > 0 => readable,
            () => allowed.into_iter().filter(|&id| id != END).collect(),
        };
        let id = from[random.below(from.len())];
        mask.accept(id).unwrap();
        bytes.extend(vocabulary.tokenizer().token_bytes(id).unwrap());
    }
    None
}

/// Whether a text as a whole is allowed.
fn allows(vocabulary: &Vocabulary, constraint: &Constraint, text: &str) -> bool {
    let mut mask = constraint.mask();
    let options = EncodeOptions { add_special: false, parse_special: false };
    let ids = vocabulary.tokenizer().encode(text, options).unwrap();
    ids.into_iter().chain([END]).all(|id| {
        let mut logits = vec![0.0; N_LOGITS];
        mask.apply(&mut logits).unwrap();
        logits[id as usize] == 0.0 && mask.accept(id).is_ok()
    })
}

fn invalid_answers(suite: &Path, judged: &[Value]) -> Value {
    let file = std::env::temp_dir().join(format!("lossy-schema-suite-{}.json", std::process::id()));
    std::fs::write(&file, serde_json::to_vec(judged).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json_schema_suite/validate.py");
    let done = Command::new(suite.join("venv/bin/python")).arg(script).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn every_schema_is_refused_or_its_answers_are_valid() {
    let suite = suite();
    let vocabulary = Vocabulary::new(&toy_tokenizer(), N_LOGITS).unwrap();
    let mut cases_of_all = cases(&suite, "draft7", "http://json-schema.org/draft-07/schema#");
    cases_of_all.extend(cases(&suite, "draft2020-12", "https://json-schema.org/draft/2020-12/schema"));
    let mut random = Random(0x5eed);
    let (mut judged, mut names, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let (mut n_refused, mut n_cut, mut n_valid, mut n_narrow) = (0, 0, 0, 0);
    for case in &cases_of_all {
        let constraint = match Constraint::json_schema(&vocabulary, &case.schema, &Limits::default()) {
            Ok(constraint) => constraint,
            Err(error) => {
                println!("refused {}: {error}", case.name);
                n_refused += 1;
                continue;
            }
        };
        for test in &case.tests {
            let allowed = allows(&vocabulary, &constraint, &test["data"].to_string());
            match test["valid"] == true {
                false if allowed => wrong.push(format!("{}: allows {}", case.name, test["data"])),
                true if allowed => n_valid += 1,
                true => n_narrow += 1,
                false => {}
            }
        }
        let answers: Vec<String> =
            (0..ANSWERS).filter_map(|_| answer(&vocabulary, &constraint, &mut random)).collect();
        n_cut += ANSWERS - answers.len();
        names.push(&case.name);
        judged.push(json!({"draft": case.draft, "schema": case.schema, "answers": answers}));
    }
    let verdict = invalid_answers(&suite, &judged);
    for case in verdict["unjudged"].as_array().unwrap() {
        let schema = judged[case.as_u64().unwrap() as usize]["schema"].to_string();
        assert!(schema.contains(r"\\p{"), "Python knows no pattern of {schema}");
    }
    for invalid in verdict["wrong"].as_array().unwrap() {
        let case = invalid[0].as_u64().unwrap() as usize;
        wrong.push(format!("{}: {} is wrong: {}", names[case], invalid[1], invalid[2]));
    }
    let (n, n_enforced) = (cases_of_all.len(), judged.len());
    println!("{n} schemas: {n_enforced} enforced, {n_refused} refused; {n_cut} answers were cut off");
    println!("of the valid instances of enforced schemas {n_valid} are allowed, {n_narrow} are not");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_enforced * 2 > n, "only {n_enforced} of {n} schemas are enforced");
}
