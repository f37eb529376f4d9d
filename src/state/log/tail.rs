//! Where the last lines of a log begin, found from its end.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::unix::fs::FileExt,
};

use super::record::PARTIAL_END;

/// How much is read at a time.
const BLOCK: u64 = 64 * 1024;

/// Whether a record ends a line: it is no part, and not damaged.
fn ends_line(record: &[u8]) -> bool {
    record.ends_with(b"}") && !record.ends_with(PARTIAL_END)
}

/// Where the last `wanted` lines of a file begin, or how many it has if these are fewer.
///
/// # Errors
/// What read(2) says.
pub(super) fn last_lines(file: &File, wanted: u64) -> io::Result<Result<u64, u64>> {
    let mut end = file.metadata()?.len();
    let mut found = 0;
    // A newline by itself does not say whether its record is a part.
    let before = PARTIAL_END.len() as u64;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let from = start.saturating_sub(before);
        let mut block = vec![0; (end - from) as usize];
        file.read_exact_at(&mut block, from)?;
        let mut upto = block.len();
        while let Some(at) = memchr::memrchr(b'\n', &block[(start - from) as usize..upto]) {
            let at = at + (start - from) as usize;
            if ends_line(&block[..at]) {
                if found == wanted {
                    return Ok(Ok(from + at as u64 + 1));
                }
                found += 1;
            }
            upto = at;
        }
        end = start;
    }
    Ok(if found == wanted { Ok(0) } else { Err(found) })
}

/// The same for what can only be read from its beginning.
///
/// # Errors
/// What reading it says.
pub(super) fn last_lines_of(reader: impl io::Read, wanted: u64) -> io::Result<Result<u64, u64>> {
    let mut reader = BufReader::with_capacity(BLOCK as usize, reader);
    let mut begins = std::collections::VecDeque::from([0]);
    let (mut at, mut found, mut line) = (0, 0_u64, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        at += read as u64;
        if ends_line(&line[..line.len() - 1]) {
            found += 1;
            begins.push_back(at);
            if begins.len() as u64 > wanted.saturating_add(1) {
                begins.pop_front();
            }
        }
    }
    // The first of them is where the lines that are wanted begin, behind all that is more.
    Ok(if found >= wanted { Ok(begins.front().copied().unwrap_or(0)) } else { Err(found) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_ways_find_the_same() {
        let mut file = tempfile::tempfile().expect("file");
        let mut begins = Vec::new();
        let mut at = 0;
        for i in 0..3000_u64 {
            begins.push(at);
            let part = format!("{{\"log\":\"{}\",\"partial\":true}}\n", "x".repeat((i % 97) as usize));
            let text = if i % 5 == 0 { part.repeat(3) + "{}\n" } else { format!("{{\"log\":\"{i}\\n\"}}\n") };
            file.write_all(text.as_bytes()).expect("written");
            at += text.len() as u64;
        }
        let bytes = {
            let mut bytes = vec![0; at as usize];
            file.read_exact_at(&mut bytes, 0).expect("read");
            bytes
        };
        for wanted in [0, 1, 2, 7, 1000, 2999, 3000] {
            let begin = if wanted == 0 { at } else { begins[3000 - wanted as usize] };
            assert_eq!(last_lines(&file, wanted).expect("read"), Ok(begin), "{wanted}");
            assert_eq!(last_lines_of(&bytes[..], wanted).expect("read"), Ok(begin), "{wanted}");
        }
        assert_eq!(last_lines(&file, 3001).expect("read"), Err(3000));
        assert_eq!(last_lines_of(&bytes[..], 3001).expect("read"), Err(3000));
    }
}
