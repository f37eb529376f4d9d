//! How fast a layer comes from a registry on this machine, by what is done with it.
//!
//! `cargo bench --bench registry`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where something is wrong")]

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::OnceLock,
    thread,
};

use divan::{Bencher, counter::BytesCount};
use nscompose::{
    image::{
        registry::{Access, Registry, download},
        store::{Begun, Store},
    },
    model::{Digest, ImageName},
};

const SIZE: usize = 500 << 20;

fn main() {
    divan::main();
}

fn layer() -> &'static (Vec<u8>, Digest) {
    static LAYER: OnceLock<(Vec<u8>, Digest)> = OnceLock::new();
    LAYER.get_or_init(|| {
        let bytes = vec![7; SIZE];
        let digest = Digest::of(&bytes);
        (bytes, digest)
    })
}

/// A server that has one thing to give, plainly.
fn image() -> ImageName {
    static PORT: OnceLock<u16> = OnceLock::new();
    let port = PORT.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || drop(serve(stream)));
            }
        });
        port
    });
    format!("127.0.0.1:{port}/app").parse().unwrap()
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let body: &[u8] = if line.contains("/blobs/") { &layer().0 } else { b"" };
    while reader.read_line(&mut line)? > 2 {}
    stream.write_all(
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
    )?;
    stream.write_all(body)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// What the connection and the client can do.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn read_alone(bencher: Bencher<'_, '_>) {
    let (_, digest) = layer();
    bencher.counter(BytesCount::new(SIZE)).bench(|| {
        run(async {
            let registry = Registry::new(Access::default(), |_| {});
            let mut blob = registry.blob(&image(), digest, 0).await.unwrap();
            let mut length = 0;
            while let Some(chunk) = blob.next().await.unwrap() {
                length += chunk.len();
            }
            assert_eq!(length, SIZE);
        });
    });
}

/// What the digest costs alone.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn hash_alone(bencher: Bencher<'_, '_>) {
    let (bytes, _) = layer();
    bencher.counter(BytesCount::new(SIZE)).bench(|| Digest::of(bytes));
}

/// All of it: read, hashed, written, verified.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn into_the_store(bencher: Bencher<'_, '_>) {
    let (_, digest) = layer();
    bencher.counter(BytesCount::new(SIZE)).with_inputs(|| tempfile::tempdir().unwrap()).bench_refs(|folder| {
        run(async {
            let store = Store::new(folder.path().join("images"));
            drop(store.share().unwrap());
            let Begun::Writer(mut writer) = store.begin_blob(digest).unwrap() else { panic!("it is new") };
            let registry = Registry::new(Access::default(), |_| {});
            download(&registry, &image(), SIZE as u64, &mut writer, async |_| Ok(())).await.unwrap();
            writer.finish(Some(SIZE as u64)).unwrap();
        });
    });
}
