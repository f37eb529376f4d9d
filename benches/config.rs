//! What `config` does with a file of N services, phase by phase. `cargo bench --bench config`

use divan::Bencher;
use nscompose::load::{LoadOptions, contents, project_name};
use tempfile::TempDir;

const SERVICES: [usize; 4] = [1, 10, 100, 1_000];

fn main() {
    divan::main();
}

/// A project as people write them, with N services.
fn project(services: usize) -> (TempDir, LoadOptions) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = include_str!("project/head.yaml").to_owned();
    for n in 1..=services {
        let service = include_str!("project/service.yaml").replace("@N@", &n.to_string());
        text.push_str(&service.replace("@BEFORE@", &(n - 1).to_string()));
    }
    std::fs::write(folder.path().join("compose.yaml"), text).expect("written");
    let options = LoadOptions { directory: folder.path().to_owned(), ..LoadOptions::default() };
    (folder, options)
}

/// All that is needed for the name of the project: the files are read and parsed.
#[divan::bench(args = SERVICES)]
fn parse(bencher: Bencher<'_, '_>, services: usize) {
    let (_folder, options) = project(services);
    bencher.bench(|| project_name(&options).expect("a name"));
}

#[divan::bench(args = SERVICES)]
fn whole_contents(bencher: Bencher<'_, '_>, services: usize) {
    let (_folder, options) = project(services);
    bencher.bench(|| contents(&options).expect("contents"));
}

#[divan::bench(args = SERVICES)]
fn serialize(bencher: Bencher<'_, '_>, services: usize) {
    let (_folder, options) = project(services);
    let contents = contents(&options).expect("contents");
    bencher.bench(|| contents.json().expect("text"));
}
