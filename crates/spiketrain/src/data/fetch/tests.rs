//! Against a server on this machine that misbehaves.

use super::http::{Client, Patience};
use super::*;
use crate::error::ErrorKind;
use crate::event::Flow;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a request is answered.
#[derive(Clone, Debug)]
enum Answer {
    /// Correctly, ranges included; with this content.
    Serve(Vec<u8>),
    /// As `Serve`, but the connection ends after so many bytes of the body.
    Cut(Vec<u8>, usize),
    /// The whole content, whatever range was asked for.
    IgnoreRange(Vec<u8>),
    /// As `Cut`, but the connection stays open and silent.
    Stall(Vec<u8>, usize),
    /// These bytes in place of an HTTP answer.
    Raw(Vec<u8>),
}

/// A server that answers one request after another and tells which range each asked for.
struct Server {
    mirror: String,
    ranges: Receiver<Option<String>>,
    worker: Option<JoinHandle<()>>,
    end: Sender<()>,
}

impl Server {
    fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror = format!("http://{}/data/", listener.local_addr().unwrap());
        let (tell, ranges) = channel();
        let (end, ended) = channel();
        let worker = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for answer in VecDeque::from(answers) {
                let (mut stream, _) = listener.accept().unwrap();
                if ended.try_recv().is_ok() {
                    break;
                }
                let range = read_range(&mut stream);
                tell.send(range.clone()).unwrap();
                // The client may hang up before the end.
                let _ = reply(&mut stream, &answer, range);
                if matches!(answer, Answer::Stall(..)) {
                    silent.push(stream);
                }
            }
            // Silent connections stay open as long as the server lives.
            let _ = ended.recv_timeout(Duration::from_secs(20));
        });
        Self { mirror, ranges, worker: Some(worker), end }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.try_iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end.send(());
        // Wakes a server that still waits for a request.
        let address = self.mirror.trim_start_matches("http://").trim_end_matches("/data/");
        let _ = TcpStream::connect(address);
        let _ = self.worker.take().unwrap().join();
    }
}

fn read_range(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        request.push(byte[0]);
    }
    let text = String::from_utf8(request).unwrap();
    assert!(text.is_empty() || text.starts_with("GET /data/file.bin HTTP/1.1\r\n"), "{text}");
    let lines = text.lines().filter_map(|l| l.split_once(": "));
    lines.filter(|(k, _)| k.eq_ignore_ascii_case("range")).map(|(_, v)| v.to_owned()).next()
}

fn reply(stream: &mut TcpStream, answer: &Answer, range: Option<String>) -> std::io::Result<()> {
    let (content, limit) = match answer {
        Answer::Serve(c) | Answer::IgnoreRange(c) => (c, usize::MAX),
        Answer::Cut(c, n) | Answer::Stall(c, n) => (c, *n),
        Answer::Raw(bytes) => return stream.write_all(bytes),
    };
    let first = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let first = first.filter(|_| !matches!(answer, Answer::IgnoreRange(_))).unwrap_or(0usize);
    let n = content.len();
    if first >= n && n > 0 {
        return stream.write_all(
            b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    }
    let (status, extra) = match first {
        0 => ("200 OK", String::new()),
        _ => ("206 Partial Content", format!("content-range: bytes {first}-{}/{n}\r\n", n - 1)),
    };
    let length = n - first;
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    let body = &content[first..];
    stream.write_all(&body[..limit.min(body.len())])
}

fn status(code: &str) -> Answer {
    let head = format!("HTTP/1.1 {code}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    Answer::Raw(head.into_bytes())
}

/// Content that differs everywhere.
fn content() -> Vec<u8> {
    (0..200_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 16).to_le_bytes()).collect()
}

fn remote(bytes: &[u8]) -> Remote {
    let sum: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    Remote { name: "file.bin", n_bytes: bytes.len() as u64, sha256: sum.leak() }
}

/// Counts bytes of progress; stops the download once there are more than `stop_after`.
struct Watch {
    last: u64,
    stop_after: u64,
}

impl Observer for Watch {
    fn on_event(&mut self, event: &Event) -> Flow {
        if let Event::StageProgress { done, total, .. } = event {
            assert!(done <= total);
            self.last = *done;
        }
        if self.last > self.stop_after { Flow::Stop } else { Flow::Continue }
    }
}

/// A folder into which `file.bin` is downloaded.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(self, name: &str, bytes: &[u8]) -> Self {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.path().join(name)).ok()
    }

    fn fetch(&self, mirrors: &[&str], file: &Remote) -> Result<PathBuf> {
        self.watch(mirrors, file, &mut Watch { last: 0, stop_after: u64::MAX })
    }

    fn watch(&self, mirrors: &[&str], file: &Remote, watch: &mut Watch) -> Result<PathBuf> {
        let patience =
            Patience { connect: Duration::from_secs(5), read: Duration::from_millis(400) };
        let client = Client::new(patience, None, None);
        file.fetch(mirrors, self.0.path(), &client, watch)
    }

    /// Downloads from one server with these answers; it must succeed. The ranges asked for.
    fn must_succeed(&self, answers: Vec<Answer>) -> Vec<Option<String>> {
        let (server, content) = (Server::new(answers), content());
        self.fetch(&[&server.mirror], &remote(&content)).unwrap();
        assert_eq!(self.read("file.bin").unwrap(), content);
        assert!(self.read("file.bin.part").is_none());
        server.ranges()
    }

    /// Downloads from one server with these answers; it must fail. What the error says.
    fn must_fail(&self, answers: Vec<Answer>) -> String {
        let server = Server::new(answers);
        let error = self.fetch(&[&server.mirror], &remote(&content())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(self.read("file.bin").is_none());
        error.to_string()
    }
}

fn from(n: usize) -> Option<String> {
    Some(format!("bytes={n}-"))
}

#[test]
fn a_whole_file_with_progress() {
    let (content, place) = (content(), Place::new());
    let server = Server::new(vec![Answer::Serve(content.clone())]);
    let mut watch = Watch { last: 0, stop_after: u64::MAX };
    place.watch(&[&server.mirror], &remote(&content), &mut watch).unwrap();
    assert_eq!(watch.last, content.len() as u64);
    assert_eq!(place.read("file.bin").unwrap(), content);
    // It is there now: no request is made.
    place.fetch(&[], &remote(&content)).unwrap();
}

#[test]
fn a_broken_connection_goes_on_where_it_stopped() {
    let c = content();
    let answers =
        vec![Answer::Cut(c.clone(), 1000), Answer::Cut(c.clone(), 70_000), Answer::Serve(c)];
    assert_eq!(Place::new().must_succeed(answers), [None, from(1000), from(71_000)]);
}

#[test]
fn a_partial_file_of_an_earlier_call_is_resumed() {
    let c = content();
    let place = Place::new().write("file.bin.part", &c[..5000]);
    assert_eq!(place.must_succeed(vec![Answer::Serve(c.clone())]), [from(5000)]);
    // One that is complete needs no request, one that is too long is begun anew.
    assert_eq!(Place::new().write("file.bin.part", &c).must_succeed(vec![]), []);
    let long = [c.as_slice(), b"more"].concat();
    let place = Place::new().write("file.bin.part", &long);
    assert_eq!(place.must_succeed(vec![Answer::Serve(c)]), [None]);
}

#[test]
fn a_server_that_refuses_ranges_starts_again() {
    let c = content();
    let answers = vec![Answer::Cut(c.clone(), 1000), Answer::IgnoreRange(c.clone())];
    assert_eq!(Place::new().must_succeed(answers), [None, from(1000)]);
    let answers = vec![status("416 Range Not Satisfiable"), Answer::Serve(c.clone())];
    let place = Place::new().write("file.bin.part", &c[..5000]);
    assert_eq!(place.must_succeed(answers), [from(5000), None]);
    let other = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 7-9/800000\r\n\r\nabc";
    let answers = vec![Answer::Raw(other.into()), Answer::Serve(c.clone())];
    let place = Place::new().write("file.bin.part", &c[..5000]);
    assert_eq!(place.must_succeed(answers), [from(5000), None]);
}

#[test]
fn a_wrong_checksum_is_never_given_the_final_name() {
    let (good, mut bad) = (content(), content());
    bad[77] ^= 1;
    let place = Place::new();
    let error = place.must_fail(vec![Answer::Serve(bad.clone())]);
    assert!(error.contains(": SHA-256 ") && error.contains(remote(&good).sha256), "{error}");
    assert!(place.read("file.bin.part").is_none());
    // Wrong bytes from an earlier call: the same mirror is asked for the whole.
    let place = Place::new().write("file.bin.part", &bad[..5000]);
    let answers = vec![Answer::Serve(good.clone()), Answer::Serve(good)];
    assert_eq!(place.must_succeed(answers), [from(5000), None]);
}

#[test]
fn the_next_mirror_takes_over() {
    let (good, mut bad, place) = (content(), content(), Place::new());
    bad[5] ^= 1;
    let servers = [
        Server::new(vec![status("404 Not Found")]),
        Server::new(vec![Answer::Serve(bad)]),
        Server::new(vec![Answer::Raw(b"no HTTP\r\n\r\n".to_vec())]),
        Server::new(vec![Answer::Cut(good.clone(), 3000), status("503 Service Unavailable")]),
        Server::new(vec![Answer::Serve(good.clone())]),
    ];
    let mirrors: Vec<&str> = servers.iter().map(|s| s.mirror.as_str()).collect();
    let error = place.fetch(&mirrors[..4], &remote(&good)).unwrap_err().to_string();
    for (mirror, why) in mirrors.iter().zip(["404", "SHA-256", "", "503"]) {
        assert!(error.contains(&format!("\n  {mirror}file.bin: ")), "{error}");
        assert!(error.contains(why), "{error}");
    }
    place.fetch(&mirrors[4..], &remote(&good)).unwrap();
    assert_eq!(servers[4].ranges(), [from(3000)]);
    assert_eq!(place.read("file.bin").unwrap(), good);
}

#[test]
fn silence_is_given_up() {
    let c = content();
    let answers = vec![Answer::Stall(c.clone(), 2000), Answer::Serve(c)];
    assert_eq!(Place::new().must_succeed(answers), [None, from(2000)]);
    let place = Place::new();
    let error = place.must_fail(vec![Answer::Stall(content(), 0)]);
    assert!(error.contains("timeout"), "{error}");
}

#[test]
fn a_file_of_another_length_is_refused() {
    let (mut long, place) = (content(), Place::new());
    long.push(0);
    let error = place.must_fail(vec![Answer::Serve(long.clone())]);
    assert!(error.contains("a file of 800001 bytes, expected 800000"), "{error}");
    let unsaid = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".as_slice(), &long].concat();
    // Without an announced length no more than expected is taken, which here is the file.
    place.must_succeed(vec![Answer::Raw(unsaid)]);
}

#[test]
fn without_a_connection_the_error_names_address_and_place() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mirror, place) = (format!("http://{closed}/"), Place::new());
    let error = place.fetch(&[&mirror], &remote(b"x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let (error, path) = (error.to_string(), place.0.path().join("file.bin"));
    let begin = format!("cannot download file.bin, its place is {}\n", path.display());
    assert!(error.starts_with(&begin) && error.contains(&format!("{mirror}file.bin: ")), "{error}");
}

#[test]
fn a_file_that_is_another_is_left_alone() {
    let place = Place::new().write("file.bin", b"mine");
    let error = place.fetch(&[], &remote(b"other")).unwrap_err().to_string();
    assert!(error.contains("file.bin: SHA-256") && error.contains("remove it"), "{error}");
    assert_eq!(place.read("file.bin").unwrap(), b"mine");
    let file = remote(b"mine");
    let files = [file, Remote { name: "absent.bin", ..file }];
    let download = Download { folder: "", mirrors: &[], files: Vec::from(files).leak() };
    let path = place.0.path().join("").join("file.bin");
    assert_eq!(download.verify(place.0.path()).unwrap(), [(path, true)]);
}

#[test]
fn one_process_at_a_time() {
    let place = Place::new();
    let part = Part::open(place.0.path().join("file.bin.part")).unwrap();
    let error = place.fetch(&[], &remote(b"x")).unwrap_err().to_string();
    assert!(error.contains("found another process at it"), "{error}");
    drop(part);
}

#[test]
fn an_interrupted_download_keeps_what_it_has() {
    let (c, place) = (content(), Place::new());
    let server = Server::new(vec![Answer::Serve(c.clone())]);
    let mut watch = Watch { last: 0, stop_after: 100_000 };
    let error = place.watch(&[&server.mirror], &remote(&c), &mut watch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let part = place.read("file.bin.part").unwrap();
    assert!(part.len() > 100_000 && c.starts_with(&part));
    assert_eq!(place.must_succeed(vec![Answer::Serve(c)]), [from(part.len())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_answer_makes_it_panic(
        head in "(HTTP/1.1 (200|206|301|999)\r\n)?(content-(range|length): .{0,20}\r\n){0,2}(\r\n)?",
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let raw = [head.as_bytes(), &body].concat();
        let server = Server::new(vec![Answer::Raw(raw)]);
        let place = Place::new().write("file.bin.part", b"ab");
        let _ = place.fetch(&[&server.mirror], &remote(&content()));
    }
}
