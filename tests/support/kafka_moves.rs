//! Moves of leaders, asked of Kafka in its own protocol: librdkafka has no request that changes the order of replicas, and Kafka's own tools take
//! seconds each.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// A connection to a broker, which hands such requests to the controller.
pub struct Mover {
    stream: TcpStream,
    correlation: i32,
}

const ALTER_PARTITION_REASSIGNMENTS: (i16, i16) = (45, 0);
const ELECT_LEADERS: (i16, i16) = (43, 2);

impl Mover {
    pub fn connect(address: &str) -> Mover {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        Mover { stream, correlation: 0 }
    }

    /// Makes the first of `replicas` the preferred leader of each partition, `replicas(partition)`, and has it elected.
    pub fn move_leaders(&mut self, topic: &str, partitions: i32, replicas: impl Fn(i32) -> Vec<i32>) {
        let mut body = Vec::new();
        body.extend(10_000_i32.to_be_bytes());
        compact_length(&mut body, 1);
        compact_string(&mut body, topic);
        compact_length(&mut body, partitions as usize);
        for partition in 0..partitions {
            body.extend(partition.to_be_bytes());
            let replicas = replicas(partition);
            compact_length(&mut body, replicas.len());
            replicas.iter().for_each(|replica| body.extend(replica.to_be_bytes()));
            body.push(0);
        }
        body.extend([0, 0]);
        let answer = self.ask(ALTER_PARTITION_REASSIGNMENTS, &body);
        // Throttle time, then the error of the whole.
        let error = i16::from_be_bytes([answer[4], answer[5]]);
        assert_eq!(error, 0, "Kafka takes the new order of replicas");
        let mut body = vec![0];
        compact_length(&mut body, 1);
        compact_string(&mut body, topic);
        compact_length(&mut body, partitions as usize);
        (0..partitions).for_each(|partition| body.extend(partition.to_be_bytes()));
        body.push(0);
        body.extend(10_000_i32.to_be_bytes());
        body.push(0);
        // Some elections are not needed, some are refused while a broker lags: the next move asks again.
        self.ask(ELECT_LEADERS, &body);
    }

    /// The body of the answer.
    fn ask(&mut self, (key, version): (i16, i16), body: &[u8]) -> Vec<u8> {
        self.correlation += 1;
        let mut request = Vec::new();
        request.extend(key.to_be_bytes());
        request.extend(version.to_be_bytes());
        request.extend(self.correlation.to_be_bytes());
        // A client id of no bytes, no tags.
        request.extend([0, 0, 0]);
        request.extend(body);
        self.stream.write_all(&(request.len() as i32).to_be_bytes()).expect("the request is sent");
        self.stream.write_all(&request).expect("the request is sent");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[..4], self.correlation.to_be_bytes(), "the answer to this request");
        // Correlation id and tags.
        answer.split_off(5)
    }
}

/// The length of a compact array or string: one more, as an unsigned varint.
fn compact_length(body: &mut Vec<u8>, length: usize) {
    let mut rest = length as u32 + 1;
    while rest >= 0x80 {
        body.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
}

fn compact_string(body: &mut Vec<u8>, text: &str) {
    compact_length(body, text.len());
    body.extend(text.as_bytes());
}
