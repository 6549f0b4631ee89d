//! A provider of tokens, as an identity provider is one: `POST` with the client's name and secret, and a token comes back (RFC 6749, 4.4).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// An unsecured token of alice's, as the test cluster takes it, that ends after so many seconds.
pub fn token(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = format!(r#"{{"sub":"alice","iat":{now},"exp":{}}}"#, now + seconds);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

/// What it has been asked, and how it answers.
#[derive(Default)]
struct Book {
    /// The only secret that it takes.
    secret: Option<String>,
    issued: Vec<String>,
    refused: usize,
}

/// Its thread ends with the test's process.
pub struct TokenProvider {
    pub url: String,
    book: Arc<Mutex<Book>>,
}

impl TokenProvider {
    /// One that refuses everybody until it is told a secret; its tokens live so many seconds.
    pub fn start(client: &'static str, seconds: u64) -> TokenProvider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("its address"));
        let book = Arc::new(Mutex::new(Book::default()));
        let kept = book.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asks and goes away is none of its business.
                let _ = answer(stream, client, seconds, &kept);
            }
        });
        TokenProvider { url, book }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it takes this secret and no other.
    pub fn take(&self, secret: &str) {
        self.book().secret = Some(secret.to_owned());
    }

    pub fn issued(&self) -> Vec<String> {
        self.book().issued.clone()
    }

    pub fn refused(&self) -> usize {
        self.book().refused
    }
}

fn answer(stream: TcpStream, client: &str, seconds: u64, book: &Mutex<Book>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut length, mut authorization) = (0, String::new());
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or(("", ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let expected = book.secret.as_ref().map(|secret| format!("Basic {}", STANDARD.encode(format!("{client}:{secret}"))));
    let is_grant = String::from_utf8_lossy(&body).contains("grant_type=client_credentials");
    let (status, body) = match expected {
        Some(expected) if expected == authorization && is_grant => {
            let token = token(seconds);
            book.issued.push(token.clone());
            ("200 OK", format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":{seconds}}}"#))
        }
        _ => ("401 Unauthorized", String::from(r#"{"error":"invalid_client","error_description":"another secret"}"#)),
    };
    if !status.starts_with("200") {
        book.refused += 1;
    }
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
