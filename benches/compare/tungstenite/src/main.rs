//! What one writes in an afternoon with tokio-tungstenite: a Kafka consumer, a map of subjects, a task for each client with a bounded channel.
//! A client that lags by 1,024 records is closed. Of Centrifuge's protocol in JSON it knows connect, subscribe and publications.
//!
//! `fan-out HOST:PORT BROKERS TOPIC`. A plain GET is answered with 200.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::{ClientConfig, Message as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Records that may wait for a client.
const QUEUE_RECORDS_MAX: usize = 1_024;
const OPENED: &str = "{\"id\":1,\"connect\":{\"client\":\"x\",\"version\":\"x\"}}\n{\"id\":2,\"subscribe\":{}}";

type Rooms = Arc<Mutex<HashMap<String, Vec<Sender<Utf8Bytes>>>>>;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, brokers, topic] = arguments.as_slice() else {
        eprintln!("usage: fan-out HOST:PORT BROKERS TOPIC");
        std::process::exit(2);
    };
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers).set("group.id", format!("fan-out-{topic}")).set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = settings.create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("the topic");
    let rooms = Rooms::default();
    tokio::spawn(deliver(consumer, topic.clone(), Arc::clone(&rooms)));
    let listener = TcpListener::bind(address).await.expect("a free port");
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, Arc::clone(&rooms)));
        }
    }
}

async fn deliver(consumer: StreamConsumer, topic: String, rooms: Rooms) {
    loop {
        let Ok(record) = consumer.recv().await else { continue };
        let (Some(Ok(key)), Some(Ok(value))) = (record.key_view::<str>(), record.payload_view::<str>()) else { continue };
        let subject = format!("/{topic}/{key}");
        let mut rooms = rooms.lock().expect("no task panics with the rooms");
        let Some(clients) = rooms.get_mut(&subject) else { continue };
        let text = Utf8Bytes::from(format!("{{\"push\":{{\"channel\":\"{subject}\",\"pub\":{{\"data\":{value}}}}}}}"));
        // A channel that is full or closed goes, and its client with it.
        clients.retain(|client| client.try_send(text.clone()).is_ok());
    }
}

async fn serve(mut socket: TcpStream, rooms: Rooms) {
    let mut head = [0; 2_048];
    let count = socket.peek(&mut head).await.unwrap_or(0);
    if !String::from_utf8_lossy(&head[..count]).to_lowercase().contains("sec-websocket-key") {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        return;
    }
    let _ = socket.set_nodelay(true);
    let Ok(websocket) = tokio_tungstenite::accept_async(socket).await else { return };
    let (mut outgoing, mut incoming) = websocket.split();
    let (sender, mut queue) = channel::<Utf8Bytes>(QUEUE_RECORDS_MAX);
    let mut sender = Some(sender);
    loop {
        tokio::select! {
            heard = incoming.next() => {
                let Some(Ok(message)) = heard else { return };
                let text = message.to_text().unwrap_or_default();
                let subject = text.split_once("\"channel\":\"").and_then(|(_, rest)| rest.split('"').next());
                if let (Some(subject), Some(sender)) = (subject, sender.take_if(|_| subject.is_some())) {
                    if outgoing.send(Message::text(OPENED)).await.is_err() {
                        return;
                    }
                    rooms.lock().expect("no task panics with the rooms").entry(subject.to_owned()).or_default().push(sender);
                }
            }
            text = queue.recv() => {
                let Some(text) = text else { return };
                if outgoing.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
        }
    }
}
