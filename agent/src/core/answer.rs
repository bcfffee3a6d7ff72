//! What the server sent after the handshake, up to its first response: when, how long, and whether
//! it had been asked by then. Which of it *is* the response is judged in `response`.

/// Records of the server that are noted: two session tickets, SETTINGS and their acknowledgment come
/// before the response at most, in practice.
const MAX_RECORDS: usize = 8;

/// One protected record of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerRecord {
    /// Its first byte, CLOCK_MONOTONIC nanoseconds.
    pub time_ns: u64,
    /// Length of its body, protection included.
    pub length: u16,
    /// The client's last request data before it, CLOCK_MONOTONIC nanoseconds; 0 for none.
    pub asked_ns: u64,
    /// It left before the client's Finished came (RFC 8446, 2.3: 0.5-RTT data).
    pub is_early: bool,
}

/// What followed a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    records: [AnswerRecord; MAX_RECORDS],
    count: u8,
    asked_ns: u64,
    is_over: bool,
}

impl Answer {
    /// The client sent data of the application, or what may be.
    pub fn ask(&mut self, time_ns: u64) {
        self.asked_ns = time_ns;
    }

    /// The client has asked for something.
    pub fn is_asked(&self) -> bool {
        self.asked_ns != 0
    }

    /// The server sent a record.
    pub fn add(&mut self, time_ns: u64, length: u16, is_early: bool) {
        if self.is_over {
            return;
        }
        if let Some(record) = self.records.get_mut(usize::from(self.count)) {
            *record = AnswerRecord {
                time_ns,
                length,
                asked_ns: self.asked_ns,
                is_early,
            };
            self.count += 1;
        }
        self.is_over |= usize::from(self.count) == MAX_RECORDS;
    }

    /// The server's records in order.
    pub fn records(&self) -> &[AnswerRecord] {
        &self.records[..usize::from(self.count)]
    }

    /// The record noted last is beyond doubt the response, or comes after it.
    pub fn close(&mut self) {
        self.is_over = true;
    }

    /// The response is among what is noted, or is not to be had.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_knows_the_last_request_before_it() {
        let mut answer = Answer::default();
        answer.add(1, 255, false);
        answer.ask(2);
        answer.ask(3);
        answer.add(4, 500, false);
        let asked: Vec<u64> = answer.records().iter().map(|r| r.asked_ns).collect();
        assert_eq!(asked, [0, 3]);
        assert!(answer.is_asked() && !answer.is_over());
    }

    #[test]
    fn nothing_is_noted_after_its_end() {
        let mut answer = Answer::default();
        answer.add(1, 500, false);
        answer.close();
        answer.add(2, 500, false);
        assert_eq!(answer.records().len(), 1);
    }

    #[test]
    fn endless_answer_ends_it() {
        let mut answer = Answer::default();
        for time_ns in 0..100 {
            answer.add(time_ns, 500, false);
        }
        assert_eq!(answer.records().len(), MAX_RECORDS);
        assert!(answer.is_over());
    }
}
