//! Three stacks as people have them, with real servers in images from a registry: they talk, keep their data and go.
//!
//! The stacks are those of examples/images-*; `samples/images.rs` makes the images.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

#[path = "registry/server.rs"]
#[allow(dead_code, reason = "the tests of registries use the rest")]
mod server;

mod samples {
    pub(crate) mod images;
}
mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use samples::images::Samples;
use support::{Need, Output, Run, Stack, free_port, needs, wait_for};

/// One of the examples, in a project of its own.
struct Sample {
    stack: Stack,
    file: PathBuf,
    port: u16,
}

impl Sample {
    fn new(example: &str, samples: &Samples) -> Self {
        let stack = Stack::empty();
        let settings = stack.user_home().join(".config/nscompose");
        fs::create_dir_all(&settings).unwrap();
        fs::write(settings.join("config.yaml"), samples.settings()).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example).join("compose.yaml");
        Self { stack, file, port: free_port() }
    }

    fn nscompose(&self, args: &[&str]) -> Run {
        let run = self.stack.nscompose().env("PORT", self.port.to_string());
        run.arg("-f").arg(&self.file).args(["-p", self.stack.project()]).args(args)
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Output {
        self.nscompose(args).run().success()
    }

    /// What a command in a service says, if it succeeds.
    fn ask(&self, service: &str, command: &[&str]) -> Option<String> {
        let output = self.nscompose(&["exec", service]).args(command).run();
        (output.code == 0).then(|| output.stdout.trim_end().to_owned())
    }

    /// Who the processes of a service are, in its own words.
    #[track_caller]
    fn users(&self, service: &str) -> BTreeSet<String> {
        let script = "for process in /proc/[0-9]*; do [ $process = /proc/$$ ] || stat -c %U $process; done 2>/dev/null";
        self.ask(service, &["sh", "-c", script]).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits until a command in a service says `answer`.
    #[track_caller]
    fn wait_for_answer(&self, service: &str, command: &[&str], answer: &str) {
        let what = format!("{answer:?} of {command:?}");
        self.wait_for(&what, || self.ask(service, command).as_deref() == Some(answer));
    }

    /// Waits, and shows what all services have written when it takes too long.
    #[track_caller]
    fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut condition = condition;
            wait_for(what, || condition().then_some(()));
        }));
        if waited.is_err() {
            let logs = self.nscompose(&["logs", "--tail", "30"]).run();
            panic!("{what} did not come: {:?}\n{logs}", self.stack.ps());
        }
    }

    /// What comes of an address below the published port, if it is a page and no error.
    fn get(&self, path: &str, data: &[&str]) -> Option<String> {
        let data = data.iter().flat_map(|data| ["--data", data]);
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let curl = Run::new("curl").args(["-sS", "--fail", "--max-time", "20"]).args(data).arg(url).run();
        (curl.code == 0).then_some(curl.stdout)
    }

    /// Waits until a page is as it should be.
    #[track_caller]
    fn wait_for_page(&self, path: &str, text: &str) {
        self.wait_for(&format!("{text:?} at {path}"), || self.get(path, &[]).is_some_and(|page| page.contains(text)));
    }

    /// Takes it down; nothing is left but the volume, if it is to stay.
    #[track_caller]
    fn down(&self, volume: Option<&str>) {
        let traces = self.stack.traces();
        match volume {
            Some(volume) => {
                self.run(&["down"]);
                traces.assert_gone_but_volumes(&[volume]);
            }
            None => {
                self.run(&["down", "-v"]);
                traces.assert_gone();
            }
        }
    }
}

/// What all of them need.
macro_rules! sample {
    ($example:literal) => {{
        needs!(
            Need::Ids,
            Need::Program("apt-get"),
            Need::Program("docker-registry"),
            Need::Program("skopeo"),
            Need::Program("curl"),
        );
        let samples = Samples::get();
        // The registry is there for as long as somebody uses it.
        (Sample::new($example, &samples), samples)
    }};
}

#[test]
fn a_web_server_an_application_and_a_database_keep_what_they_were_told() {
    let (sample, _registry) = sample!("images-web-database");
    sample.run(&["up", "-d"]);
    sample.wait_for_page("/", "Who has been here?");
    sample.wait_for("the application", || sample.stack.log("app").contains("ready"));
    sample.wait_for_page("/visits", "the first one\n");
    assert_eq!(sample.get("/visits", &["O'Hara \\ \"x\""]).unwrap(), "welcome, O'Hara \\ \"x\"\n");
    let count = ["psql", "-h", "/run/postgresql", "-U", "visits", "-Atc", "SELECT count(*), current_user FROM visits"];
    assert_eq!(sample.ask("db", &count).unwrap(), "2|visits");
    assert_eq!(
        sample.ask("db", &["stat", "-c", "%U:%G %a", "/var/lib/postgresql/data"]).unwrap(),
        "postgres:postgres 700"
    );
    assert_eq!(sample.users("app"), BTreeSet::from(["postgres".to_owned()]));
    assert_eq!(sample.users("web"), BTreeSet::from(["root", "www-data"].map(str::to_owned)));
    let _ = sample.run(&["up", "-d"]).stderr_has("nothing to do");
    let log = sample.stack.log_with("db", "the database has been made");
    assert!(!log.contains("FATAL") && !log.contains("WARNING"), "{log}");
    sample.down(Some("db-data"));

    sample.run(&["up", "-d", "--pull", "never"]);
    sample.wait_for_page("/visits", "the first one\nO'Hara");
    // It was asked to end, and had the time.
    let log = sample.stack.log_with("db", "database system was shut down at");
    assert!(!log.contains("has been made"), "{log}");
    sample.down(None);
}

#[test]
fn workers_take_jobs_out_of_a_queue_that_remembers_them() {
    let (sample, _registry) = sample!("images-queue");
    sample.run(&["up", "-d"]);
    sample.wait_for("the end of `producer`", || sample.stack.container("producer").exit_code.is_some());
    assert_eq!(sample.stack.container("producer").exit_code, Some(0));
    sample.stack.log_with("producer", "all done");
    assert_eq!(sample.ask("queue", &["redis-cli", "LLEN", "done"]).unwrap(), "10");
    // Whoever waits longest gets the next job, so it takes a few until both have had one.
    let mut jobs = 10;
    sample.wait_for("both workers to work", || {
        sample.run(&["exec", "queue", "redis-cli", "LPUSH", "jobs", "this", "that"]);
        jobs += 2;
        let done = sample.ask("queue", &["redis-cli", "LRANGE", "done", "0", "-1"]).unwrap();
        done.contains("worker-1") && done.contains("worker-2")
    });
    sample.wait_for_answer("queue", &["redis-cli", "LLEN", "done"], &jobs.to_string());
    assert!(sample.users("queue").contains("redis"));
    assert_eq!(sample.ask("queue", &["stat", "-c", "%U", "/data/appendonlydir"]).unwrap(), "redis");
    sample.down(Some("queue-data"));

    // A job that nobody is there for waits for whoever comes.
    sample.run(&["up", "-d", "--pull", "never", "queue"]);
    sample.wait_for_answer("queue", &["redis-cli", "LLEN", "done"], &jobs.to_string());
    sample.run(&["exec", "queue", "redis-cli", "LPUSH", "jobs", "left over"]);
    sample.down(Some("queue-data"));
    sample.nscompose(&["up", "-d"]).env("JOBS", "0").run().success();
    sample.wait_for_answer("queue", &["redis-cli", "LLEN", "done"], &(jobs + 1).to_string());
    let last = sample.ask("queue", &["redis-cli", "LINDEX", "done", "-1"]).unwrap();
    assert!(last.starts_with("left over by ") && last.contains("worker-"), "{last}");
    sample.down(None);
}

#[test]
fn a_page_in_php_reads_and_writes_a_database() {
    let (sample, _registry) = sample!("images-lamp");
    sample.run(&["up", "-d"]);
    sample.wait_for_page("/", "written by the database itself\n");
    let page = sample.get("/", &["note=it%27s+%22quoted%22"]).unwrap();
    assert_eq!(page, "written by the database itself\nit's \"quoted\"\n");
    let count = ["mariadb", "-uroot", "-panother secret of this example", "-Ne", "SELECT COUNT(*) FROM notes.notes"];
    assert_eq!(sample.ask("db", &count).unwrap(), "2");
    assert!(sample.ask("db", &["mariadb", "-uroot", "-pwrong", "-e", "SELECT 1"]).is_none());
    assert_eq!(sample.ask("db", &["stat", "-c", "%U", "/var/lib/mysql/notes"]).unwrap(), "mysql");
    assert_eq!(sample.users("web"), BTreeSet::from(["root", "www-data"].map(str::to_owned)));
    let _ = sample.run(&["up", "-d"]).stderr_has("nothing to do");
    sample.down(Some("db-data"));

    sample.run(&["up", "-d", "--pull", "never"]);
    sample.wait_for_page("/", "it's \"quoted\"\n");
    let log = sample.stack.log("db");
    assert!(!log.contains("has been made") && !log.contains("crash recovery"), "{log}");
    sample.down(None);
}
