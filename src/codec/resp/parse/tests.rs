use proptest::prelude::*;

use super::*;

fn limits() -> RequestLimits {
    RequestLimits {
        arguments_max: 8,
        bulk_bytes_max: 64,
        request_bytes_max: 100,
        inline_bytes_max: 64,
    }
}

type Parsed = Result<Vec<Vec<Bytes>>, ProtocolError>;

/// All requests of `bytes`, given `step` bytes at a time.
fn parse(bytes: &[u8], step: usize) -> Parsed {
    let mut parser = Parser::new(limits());
    let (mut input, mut requests) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        while let Some(request) = parser.next(&mut input)? {
            requests.push(request);
        }
        assert!(parser.held_bytes() <= 100 + 8 * size_of::<Bytes>());
    }
    Ok(requests)
}

fn requests(of: &[&[&str]]) -> Vec<Vec<Bytes>> {
    let owned = |word: &&str| Bytes::copy_from_slice(word.as_bytes());
    of.iter().map(|request| request.iter().map(owned).collect()).collect()
}

#[test]
fn requests_are_taken_whole_however_they_arrive() {
    let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nPING  x\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\nPING\n";
    let expected = requests(&[&["GET", "k"], &["PING", "x"], &[""], &["PING"]]);
    for step in 1..=bytes.len() {
        assert_eq!(parse(bytes, step), Ok(expected.clone()), "{step}");
    }
}

#[test]
fn each_fault_has_the_text_of_redis() {
    let long = "x".repeat(65);
    let cases = [
        ("*9\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*x\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*1\r\n$65\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$+1\r\n", "invalid bulk length"),
        ("*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
        ("*1\r\n*1\r\n", "expected '$', got '*'"),
        ("*1\r\nGET\r\n", "expected '$', got 'G'"),
        (&format!("*{long}"), "too big mbulk count string"),
        (&format!("*1\r\n${long}"), "too big bulk count string"),
        (&long, "too big inline request"),
        (&format!("{long}\r\n"), "too big inline request"),
        ("SET \"k\r\n", "unbalanced quotes in request"),
        ("a b c d e f g h i\r\n", "invalid multibulk length"),
    ];
    for (bytes, text) in cases {
        let error = parse(bytes.as_bytes(), 3).expect_err(bytes);
        assert_eq!(error.reply(), format!("ERR Protocol error: {text}"), "{bytes}");
    }
    let two = format!("*3\r\n$60\r\n{}\r\n$41\r\n", "x".repeat(60));
    assert_eq!(parse(two.as_bytes(), 7), Err(ProtocolError::RequestTooLong { bytes_max: 100 }));
}

#[test]
fn a_number_is_no_reason_to_allocate() {
    let mut parser = Parser::new(RequestLimits::default());
    let mut input = BytesMut::from(&b"*65536\r\n$4194304\r\n"[..]);
    assert_eq!(parser.next(&mut input), Ok(None));
    assert_eq!(parser.arguments.capacity(), 0);
    assert!(input.capacity() < 1024);
}

#[test]
fn a_slow_line_is_searched_once() {
    let mut parser = Parser::new(RequestLimits::default());
    let mut input = BytesMut::from(&b"*1"[..]);
    assert_eq!(parser.next(&mut input), Ok(None));
    assert_eq!(parser.searched, 2);
    input.extend_from_slice(b"\r\n$4\r\nPING\r\n");
    assert_eq!(parser.next(&mut input), Ok(requests(&[&["PING"]]).pop()));
}

proptest! {
    #[test]
    fn any_request_comes_back(
        all in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..8), 0..6),
        step in 1usize..40,
    ) {
        let mut bytes = Vec::new();
        for request in &all {
            bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
            for argument in request {
                bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                bytes.extend_from_slice(argument);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        let expected: Vec<Vec<Bytes>> =
            all.into_iter().map(|r| r.into_iter().map(Bytes::from).collect()).collect();
        prop_assert_eq!(parse(&bytes, step), Ok(expected));
    }

    /// Whatever arrives, in whatever pieces: the same requests or the same refusal, and no panic.
    #[test]
    fn garbage_is_the_same_in_any_pieces(
        pieces in proptest::collection::vec(prop_oneof![
            Just(b"*2\r\n".to_vec()), Just(b"$3\r\nGET\r\n".to_vec()), Just(b"\r\n".to_vec()),
            Just(b"PING 'a\\' ' \"\\x4".to_vec()), Just(b"\n".to_vec()), Just(b"*-".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..9),
        ], 0..24),
        step in 1usize..20,
    ) {
        let bytes = pieces.concat();
        let whole = parse(&bytes, bytes.len().max(1));
        let cut = parse(&bytes, step);
        // A line that is too long is found out earlier or later.
        prop_assert_eq!(whole.is_ok(), cut.is_ok());
        if let (Ok(whole), Ok(cut)) = (whole, cut) {
            prop_assert_eq!(whole, cut);
        }
    }
}
