//! Server-sent events, as they arrive (WHATWG HTML §9.2.6).

/// The longest line, and the most data of an event, in bytes. Ours have some 100.
const MAX_LINE: usize = 16 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; empty if the stream did not say.
    pub(crate) kind: String,
    /// Its data.
    pub(crate) data: String,
    /// Its id, if it has one of its own.
    pub(crate) id: Option<String>,
}

/// The stream is no stream of events: it is not UTF-8, or a line or an event is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotEvents;

/// Puts events together from the pieces in which they come.
#[derive(Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a CR: an LF after it belongs to the same line end.
    after_cr: bool,
}

impl Parser {
    /// Takes the next piece and gives the events that it completes.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<Vec<Event>, NotEvents> {
        let mut events = Vec::new();
        for &byte in piece {
            let is_rest_of_crlf = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            if is_rest_of_crlf {
                continue;
            }
            if byte != b'\n' && byte != b'\r' {
                if self.line.len() >= MAX_LINE {
                    return Err(NotEvents);
                }
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|_| NotEvents)?;
            events.extend(self.end_of_line(&line)?);
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &str) -> Result<Option<Event>, NotEvents> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
                if self.event.data.len() > MAX_LINE {
                    return Err(NotEvents);
                }
            }
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            // A comment has an empty field; `retry` and what is not known is ignored.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(kind: &str, data: &str, id: Option<&str>) -> Event {
        Event { kind: kind.into(), data: data.into(), id: id.map(Into::into) }
    }

    #[test]
    fn events_are_put_together() {
        let stream =
            ": hello\n\nevent: credential\nid: 7\ndata: {\"a\":1}\n\ndata:x\ndata\ndata: y\n\nid: 8\n\nevent: z\n";
        let events = Parser::default().take(stream.as_bytes()).unwrap();
        assert_eq!(events, [event("credential", "{\"a\":1}", Some("7")), event("", "x\n\ny", None)]);
    }

    #[test]
    fn an_event_that_is_not_complete_is_not_given() {
        let mut parser = Parser::default();
        assert_eq!(parser.take(b"event: hello\ndata: {}\n").unwrap(), []);
        assert_eq!(parser.take(b"\n").unwrap(), [event("hello", "{}", None)]);
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let mut parser = Parser::default();
        assert!((0..1000).any(|_| parser.take(&[b'a'; 1024]).is_err()), "a line");
        let mut parser = Parser::default();
        assert!((0..1000).any(|_| parser.take(b"data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n").is_err()), "an event");
        assert_eq!(Parser::default().take(b"data: \xff\n"), Err(NotEvents));
    }

    proptest! {
        #[test]
        fn the_pieces_and_the_line_ends_do_not_matter(
            cuts in prop::collection::vec(1_usize..9, 0..60), end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        ) {
            let stream = ":c\n\nevent: a\nid: 1\ndata: x\ndata: é\n\nevent: b\ndata: y\n\n".replace('\n', end);
            let whole = Parser::default().take(stream.as_bytes()).unwrap();
            prop_assert_eq!(whole.len(), 2);
            let (mut parser, mut rest, mut events) = (Parser::default(), stream.as_bytes(), Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                events.extend(parser.take(piece).unwrap());
                rest = after;
            }
            events.extend(parser.take(rest).unwrap());
            prop_assert_eq!(events, whole);
        }
    }
}
