//! Files that mean harm, or were mangled: loading them ends, soon, with an error that says where, and never panics.

#![expect(clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use nscompose::{
    diagnostics::Diagnostics,
    load::{LoadOptions, Loaded, load},
};
use tempfile::TempDir;

fn load_in(folder: &Path) -> Result<Loaded, Diagnostics> {
    load(&LoadOptions {
        files: vec!["compose.yaml".into()],
        project_name: Some("hostile".to_owned()),
        directory: folder.to_owned(),
        environment: BTreeMap::from([("BIG".to_owned(), "x".repeat(100_000))]),
        ..LoadOptions::default()
    })
}

/// The rendered diagnostics of a file that has to be refused, in bearable time (for a build without optimisation).
#[track_caller]
fn refused(text: impl AsRef<[u8]>) -> String {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("compose.yaml"), text).expect("written");
    let start = Instant::now();
    let diagnostics = load_in(folder.path()).expect_err("refused");
    let rendered = diagnostics.render(false);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(rendered.len() < 1_000_000, "{} bytes", rendered.len());
    assert!(!rendered.contains('\x1b'));
    rendered
}

#[track_caller]
fn says(text: impl AsRef<[u8]>, expected: &str) {
    let rendered = refused(text);
    assert!(rendered.contains(expected), "{}", &rendered[..rendered.len().min(2_000)]);
}

#[test]
fn alias_bombs() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    says(&bomb, "too large with its aliases expanded");
    let text = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1_000));
    says(text, "too large with its aliases expanded");
    // The same by way of merge keys and by nesting anchors.
    let mut merged = String::from("m0: &m0 {k: 1}\n");
    for level in 1..40 {
        let last = level - 1;
        merged.push_str(&format!("m{level}: &m{level} {{<<: [*m{last}, *m{last}], a: *m{last}, b: *m{last}}}\n"));
    }
    says(&merged, "--> compose.yaml:");
    says(format!("a: {}x{}", "&a [".repeat(100), "]".repeat(100)), "no key `a`");
}

#[test]
fn deep_nesting() {
    says("[".repeat(10_000), "nested deeper");
    says(format!("a: {}", "{b: ".repeat(10_000)), "nested deeper");
    says("- ".repeat(10_000), "nested deeper");
    let block: String = (0..2_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    says(block, "nested deeper");
    let aliased: String = (1..10)
        .map(|level| format!("a{level}: &a{level} {}*a{}{}\n", "[".repeat(60), level - 1, "]".repeat(60)))
        .collect();
    says(format!("a0: &a0 x\n{aliased}"), "nested deeper");
    let (open, close) = ("${A:-".repeat(10_000), "}".repeat(10_000));
    says(format!("services: {{a: {{rootfs: host, command: \"{open}{close}\"}}}}"), "variables are nested deeper");
    says(format!("services: {{a: {{rootfs: host, command: \"{open}\"}}}}"), "is not closed");
}

#[test]
fn bytes_that_are_no_text() {
    says(b"services:\n  w\xffb:\n", "not UTF-8: byte 0xff begins no character\n --> compose.yaml:2:4");
    says(b"a: \0\n", "NUL character, which no text has\n --> compose.yaml:1:4");
    says("a: \"x\\0\"\n", "NUL character");
    says("a: \"\\ud800\"\n", "this is not YAML");
    says("a: \"\\uD83D\\uDE00\"\n", "this is not YAML");
    says("\u{feff}a: 1\n", "no key `a`");
    says("a\x1b[31m: 1\n", "compose.yaml:1:");
    says(b"\xff\xfea\0:\0", "no key `a`");
    says(b"\xff\xfea\0:", "not UTF-16");
    says(b"\xff\xfe\0\xd8", "not UTF-16");
    refused("\r\r\r: \r\x0b\x0c\u{85}\u{2028}");
}

#[test]
fn large_files() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("compose.yaml");
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(100 << 20).expect("long");
    let start = Instant::now();
    let error = load_in(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("longer than 16 MiB"), "{error}");
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());

    std::fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    let error = load_in(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("`compose.yaml` is a pipe or a device, not a file"), "{error}");

    // One long line, ASCII and not, many nodes, many keys, many mistakes, one long word.
    says(format!("a: [{}]", "x,".repeat(300_000)), "no key `a`");
    says(format!("a: [{}]", "ü,".repeat(300_000)), "no key `a`");
    says(format!("a: [{}]", "x,".repeat(1_100_000)), "too large");
    refused((0..100_000).map(|n| format!("key{n}: v\n")).collect::<String>());
    refused((0..20_000).map(|n| format!("? k{n}\n")).collect::<String>());
    refused("a: 1\n".repeat(50_000));
    refused("x".repeat(4 << 20));
    refused(format!("{}: 1\n", "x".repeat(1_000)));
    refused(format!("services: {{{}: 1}}", "é".repeat(500)));
    refused(" ".repeat(4 << 20));
    refused("#".repeat(4 << 20));
    refused(format!("a: |\n{}", " x\n".repeat(200_000)));
    refused(format!("a: \"{}", "\\x41".repeat(500_000)));
    refused("!".repeat(100_000));
    refused("&a ".repeat(100_000));
    refused("? ".repeat(100_000));
    refused(": ".repeat(100_000));
    refused("%TAG ! x\n".repeat(100_000));
    refused("---\n".repeat(100_000));
}

#[test]
fn many_of_everything() {
    let many = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let chain = many(&|n| format!("  s{n}: {{rootfs: host, command: x, depends_on: [s{}]}}\n", n + 1), 20_000);
    says(format!("services:\n{chain}"), "is not declared");
    let ring =
        many(&|n| format!("  s{n}: {{rootfs: host, command: x, depends_on: [s{}]}}\n", (n + 1) % 20_000), 20_000);
    says(format!("services:\n{ring}"), "services wait for each other: `s0 -> s1");
    says(
        format!(
            "services:\n  a:\n    rootfs: host\n    command: x\n    ports:\n{}",
            "      - 1-60000:1-60000\n      - 1-60000:2-60001\n"
        ),
        "publishes port 1/tcp twice",
    );
    says(
        format!("services: {{a: {{rootfs: host, command: x, ports: [{}]}}}}", "1-65535,".repeat(10_000)),
        "ports are listed",
    );
    let ports = many(&|n| format!("  s{n}: {{rootfs: host, command: x, ports: [1-65535]}}\n"), 1_000);
    says(format!("services:\n{ports}"), "ports are listed");
    let volumes = many(&|n| format!("      - v{n}:/t{n}\n"), 20_000);
    says(format!("services:\n  a:\n    rootfs: host\n    command: x\n    volumes:\n{volumes}"), "and 19900 more");
    says(
        format!("services: {{a: {{rootfs: host, command: \"{}\"}}}}", "$BIG".repeat(100_000)),
        "variables make more than",
    );
    says(
        format!("services: {{a: {{rootfs: host, command: [{}]}}}}", "\"$BIG\",".repeat(10_000)),
        "variables make more than",
    );
    says(
        format!("services: {{a: {{rootfs: host, command: x, depends_on: [{}]}}}}", "a,".repeat(5_000)),
        "is listed twice",
    );
    let names = many(&|n| format!("d{n},"), 200_000);
    says(format!("services: {{a: {{rootfs: host, command: x, depends_on: [{names}]}}}}"), "and 199900 more");
    let lost =
        many(&|n| format!("  s{n}: {{rootfs: host, command: x, depends_on: [t{n}], networks: [n{n}]}}\n"), 20_000);
    // One of them is that so many containers are too many.
    says(format!("services:\n{lost}"), "and 39900 more");
    let names = many(&|n| format!("d{n},"), 3_000);
    says(format!("services: {{a: {{rootfs: host, command: x, depends_on: [{names}]}}}}"), "more");
}

#[test]
fn numbers_beyond_all_bounds() {
    let huge = "9".repeat(400);
    for value in [huge.as_str(), "-1", "0x7fffffffffffffffffff", "1e999", ".nan", "18446744073709551616", "4294967296"]
    {
        let text = format!(
            "services:\n  a:\n    rootfs: host\n    command: x\n    stop_signal: {value}\n    stop_grace_period: {value}\n    init: {value}\n    \
             ports: [{value}, \"{value}:{value}\", {{target: {value}, published: {value}}}]\n    \
             tmpfs: [\"/t:size={value}g,mode={value}\"]\n    volumes: [{{type: tmpfs, target: /x, tmpfs: {{size: \
             {value}, mode: {value}}}}}]\n",
        );
        refused(&text);
    }
}

#[test]
fn a_hostile_env_file() {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("compose.yaml"), "services: {a: {rootfs: host, command: x}}").expect("written");
    let doubling: String = (1..64).map(|n| format!("A{n}=$A{0}$A{0}\n", n - 1)).collect();
    let nested = "${A:-".repeat(50_000);
    for text in [format!("A0=0123456789\n{doubling}"), format!("A=\"{nested}\""), "+\n".repeat(50_000), "\0".to_owned()]
    {
        std::fs::write(folder.path().join(".env"), text).expect("written");
        load_in(folder.path()).expect_err("refused");
    }
}

/// Files of a project, of which `compose.yaml` is loaded and has to be refused: saying what is expected, in bearable time.
#[track_caller]
fn project_says(files: &[(&str, String)], expected: &str) {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let start = Instant::now();
    let rendered = load_in(folder.path()).expect_err("refused").render(false);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(rendered.contains(expected), "{}", &rendered[..rendered.len().min(2_000)]);
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn includes_that_multiply() {
    let mut files = vec![("compose.yaml".to_owned(), "include: [f0.yaml]\n".to_owned())];
    for level in 0..30 {
        let next = level + 1;
        for name in ["f", "g"] {
            files.push((format!("{name}{level}.yaml"), format!("include: [f{next}.yaml, g{next}.yaml]\n")));
        }
    }
    for name in ["f30.yaml", "g30.yaml"] {
        files.push((name.to_owned(), "services: {a: {command: x}}\n".to_owned()));
    }
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    project_says(&files, "files are included more than 10000 times");
    let many = lines(20_000, |n| format!("  - {{path: a.yaml, project_directory: d{n}}}\n"));
    let included = ("a.yaml", "services: {a: {command: x}}\n".to_owned());
    project_says(
        &[("compose.yaml", format!("include:\n{many}")), included],
        "files are included more than 10000 times",
    );
    let text = lines(100, |n| format!("  - i{n}.yaml\n"));
    let mut files = vec![("compose.yaml".to_owned(), format!("include:\n{text}"))];
    for n in 0..100 {
        let words = "\"$BIG\",".repeat(100);
        files.push((format!("i{n}.yaml"), format!("services: {{s{n}: {{command: [{words}]}}}}\n")));
    }
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    project_says(&files, "variables make more than 128 MiB of text of the project");
}

#[test]
fn extends_that_multiply() {
    let base = lines(10_000, |n| format!("      E{n}: v\n"));
    let fan = lines(10_000, |n| format!("  s{n}: {{extends: base}}\n"));
    says(
        format!("services:\n  base:\n    rootfs: host\n    command: x\n    environment:\n{base}{fan}"),
        "the project has more than 2000000 values",
    );
    let growing = lines(10_000, |n| format!("  s{}: {{extends: s{n}, environment: {{A{n}: x}}}}\n", n + 1));
    says(
        format!("services:\n  s0: {{rootfs: host, command: x}}\n{growing}"),
        "the project has more than 2000000 values",
    );
    let chain = lines(100_000, |n| format!("  s{n}: {{extends: s{}}}\n", n + 1));
    says(
        format!("services:\n{chain}  s100000: {{rootfs: host, command: x}}\n"),
        "services extend each other more than 1000 deep",
    );
    let resets = lines(5_000, |n| format!("  s{n}: {{extends: b{n}, ports: !reset []}}\n  b{n}: {{ports: [80]}}\n"));
    says(format!("services:\n{resets}"), "has neither an image nor a build");
}

#[test]
fn documents_that_multiply() {
    let services = lines(20_000, |n| format!("  s{n}: {{command: x}}\n"));
    let documents = "---\nservices: {s1: {command: x}}\n".repeat(5_000);
    says(format!("services:\n{services}{documents}"), "the project has more than 2000000 values");
}

#[test]
fn variables_of_services_that_multiply() {
    let services = lines(1_000, |n| format!("  s{n}: {{rootfs: host, command: x, env_file: big.env}}\n"));
    let variables = lines(10_000, |n| format!("V{n}=1\n"));
    let files = [("compose.yaml", format!("services:\n{services}")), ("big.env", variables)];
    project_says(&files, "files of variables make more than 256 MiB of text");
}

#[test]
fn nothing_is_looked_up_one_by_one() {
    let service = |rest: String| format!("services:\n  a:\n    command: x\n{rest}");
    let items = |key: &str, item: &dyn Fn(usize) -> String| service(format!("    {key}:\n{}", lines(100_000, item)));
    says(items("links", &|n| format!("      - h{n}:b\n")), "depends on `h0`, which is not declared");
    says(items("volumes_from", &|n| format!("      - h{n}\n")), "depends on `h0`, which is not declared");
    says(items("networks", &|n| format!("      - n{n}\n")), "uses network `n0`, which is not declared");
    says(items("extra_hosts", &|n| format!("      - h{n}=1.1.1.1\n")) + "    z: 1\n", "has no key `z`");
    let nothing = lines(200_000, |n| format!("  s{n}: {{imge: x}}\n"));
    says(format!("services:\n{nothing}"), "has no key `imge`");
    let conflicting = |image: &str| lines(20_000, |n| format!("  s{n}: {{image: {image}}}\n"));
    project_says(
        &[
            ("compose.yaml", "include: [a.yaml, b.yaml]\n".to_owned()),
            ("a.yaml", format!("services:\n{}", conflicting("x"))),
            ("b.yaml", format!("services:\n{}", conflicting("y"))),
        ],
        "is declared in an included file as well, and differs",
    );
    let variables = lines(200_000, |n| format!("V{n}=1\n"));
    project_says(
        &[("compose.yaml", service("    env_file: e\n    z: 1\n".to_owned())), ("e", variables)],
        "has no key `z`",
    );
}

#[test]
fn names_as_long_as_files() {
    let name = "n".repeat(1 << 20);
    let folder = TempDir::new().expect("a folder");
    for keys in [
        lines(20_000, |n| format!("    k{n}: 1\n")),
        format!("    networks: [{}]\n", lines(20_000, |n| format!("n{n},"))),
    ] {
        let text = format!("services:\n  ? {name}\n  :\n    command: x\n{keys}");
        std::fs::write(folder.path().join("compose.yaml"), text).expect("written");
        let start = Instant::now();
        let diagnostics = load_in(folder.path()).expect_err("refused");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.message.len() < 20_000));
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = TempDir::new().expect("a folder");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for text in [
        "include: [pipe]",
        "include: [{path: empty.yaml, env_file: pipe}]",
        "services: {a: {command: x, env_file: pipe}}",
        "services: {a: {command: x, label_file: pipe}}",
        "services: {a: {extends: {file: pipe, service: a}}}",
        "include: [/dev/zero]",
    ] {
        std::fs::write(folder.path().join("empty.yaml"), "services: {}").expect("written");
        std::fs::write(folder.path().join("compose.yaml"), text).expect("written");
        let error = load_in(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("is a pipe or a device, not a file"), "{error}");
    }
    // Standard input is for the caller to give.
    for text in ["include: ['-']", "services: {a: {extends: {file: '-', service: a}}}"] {
        std::fs::write(folder.path().join("compose.yaml"), text).expect("written");
        let error = load_in(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("`-` does not exist"), "{error}");
    }
    std::fs::remove_file(folder.path().join("compose.yaml")).expect("removed");
    std::fs::rename(pipe, folder.path().join("compose.yaml")).expect("renamed");
    let error = load_in(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("is a pipe or a device, not a file"), "{error}");
}

/// Numbers that look random and are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound.max(1)
    }
}

#[test]
fn mangled_files_never_panic() {
    const BITS: [&str; 40] = [
        ":", ": ", "- ", "\n", "  ", "\t", "{", "}", "[", "]", ",", "\"", "'", "|", ">", "&a ", "*a", "<<: ", "!",
        "!!str ", "%", "@", "#", " #", "?", "? ", "$", "${", "}", "$$", "~", "null", "---\n", "...\n", "\\", "\r", "ü",
        "\u{feff}", "0", "-",
    ];
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut seeds: Vec<_> = std::fs::read_dir(cases)
        .expect("cases")
        .map(|case| std::fs::read(case.expect("a case").path().join("compose.yaml")).expect("a file"))
        .collect();
    seeds.sort();
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("compose.yaml");
    let mut random = Random(2024);
    for round in 0..20_000 {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes.truncate(at),
                1 => bytes[at] = random.below(256) as u8,
                2 => {
                    let end = (at + random.below(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                3 => {
                    let end = (at + random.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ => {
                    let bit = BITS[random.below(BITS.len())].bytes();
                    bytes.splice(at..at, bit);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'a');
            }
        }
        std::fs::write(&path, &bytes).expect("written");
        // A panic names the round, which with the seed is all that is needed to have it again.
        let outcome = std::panic::catch_unwind(|| match load_in(folder.path()) {
            Ok(loaded) => loaded.warnings.render(round % 2 == 0).len(),
            Err(diagnostics) => diagnostics.render(round % 2 == 0).len(),
        });
        assert!(outcome.is_ok(), "round {round}: {:?}", String::from_utf8_lossy(&bytes));
    }
}
