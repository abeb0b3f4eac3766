//! The agent over HTTP.

use super::*;

/// On the loopback, and of this process alone: a port that the kernel chose
/// and that was freed again may be another's by then.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(9101);
    // Process ids have 22 bits.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = TAKEN.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 64 | high & 63, middle, low], port))
}

/// HTTP, served as the agent does.
struct Web {
    address: SocketAddr,
    turns: Arc<AtomicBool>,
    shows: watch::Sender<Option<Arc<Shown>>>,
    _stop: oneshot::Sender<()>,
}

impl Web {
    fn on(address: SocketAddr, limits: web::WebLimits) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (shows, watched) = watch::channel(shown(well()));
        let turns = Arc::new(AtomicBool::new(true));
        let metrics = Arc::new(Metrics::new());
        metrics.observe(&well());
        let turned = turns.clone();
        let pages = web::Pages {
            metrics,
            shown: watched,
            turns: Arc::new(move || turned.load(Ordering::Relaxed)),
            notes: Notes::new(|| ()),
            names: web::Names::new(["joker"], &[]),
        };
        drop(web::serve(address, pages, limits, async move { drop(stopped.await) }));
        Self { address, turns, shows, _stop: stop }
    }

    fn new(limits: web::WebLimits) -> Self {
        Self::on(free_address(), limits)
    }

    async fn connect(&self) -> TcpStream {
        within(async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{request} HTTP/1.1\r\nHost: joker\r\n\r\n");
        within(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn the_pages_say_what_the_loop_shows() {
    let web = Web::new(web::WebLimits::default());
    let metrics = web.ask("GET /metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(metrics.contains(kind), "{metrics}");
    assert!(metrics.contains("\nfort_agent_in_sync 1\n") && metrics.ends_with("# EOF\n"));
    let status = web.ask("GET /status?x=y").await;
    let (head, body) = status.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Status>(body).unwrap(), well());
    let head = web.ask("HEAD /metrics").await;
    assert!(head.contains(kind) && head.ends_with("\r\n\r\n"), "{head}");
    let people = web.ask("GET /").await;
    assert!(people.starts_with("HTTP/1.1 200 "), "{people}");
    assert!(people.contains("content-type: text/html; charset=utf-8\r\n"), "{people}");
    let policy = "content-security-policy: default-src 'none'; style-src 'sha256-";
    assert!(people.contains(policy) && people.contains("nosniff"), "{people}");
    assert!(people.contains("<h1>In sync</h1>") && people.contains("rolled back"), "{people}");
    assert!(web.ask("POST /").await.starts_with("HTTP/1.1 405 "));
    let refused = web.ask("POST /status").await;
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: GET, HEAD\r\n"));
    assert!(web.ask("GET /etc/passwd").await.starts_with("HTTP/1.1 404 "));
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
    web.shows.send_replace(shown(blind()));
    let blind = web.ask("GET /healthz").await;
    assert!(blind.starts_with("HTTP/1.1 503 ") && blind.contains("cannot be looked at"), "{blind}");
    web.turns.store(false, Ordering::Relaxed);
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 503 "));
    web.shows.send_replace(None);
    assert!(web.ask("GET /status").await.starts_with("HTTP/1.1 503 "));
    let people = web.ask("GET /").await;
    assert!(people.starts_with("HTTP/1.1 503 ") && people.contains("only just been started"));
}

#[tokio::test]
async fn who_sends_slowly_is_cut_off() {
    let limits = web::WebLimits {
        head: Duration::from_millis(200),
        connection: Duration::from_millis(600),
        ..web::WebLimits::default()
    };
    let web = Web::new(limits);
    // A head that never ends, and one byte at a time.
    let mut stuck = web.connect().await;
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    let mut dripping = web.connect().await;
    let drip = async {
        while dripping.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(drip).await;
    let mut rest = Vec::new();
    let _ = within(stuck.read_to_end(&mut rest)).await;
    assert!(!rest.windows(12).any(|window| window == b"HTTP/1.1 200"), "{rest:?}");
    let huge = format!("GET /{}", "x".repeat(64 << 10));
    let mut stream = web.connect().await;
    let _ = within(stream.write_all(huge.as_bytes())).await;
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn whoever_asks_is_answered_however_many_are_silent() {
    // None of them goes by itself.
    let (head, connection) = (DEADLINE * 10, DEADLINE * 10);
    let web = Web::new(web::WebLimits { head, connection, ..web::WebLimits::default() });
    drop(web.connect().await);
    let mut silent = Vec::new();
    for neighbour in 0..16 {
        for _ in 0..8 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 3, 0, neighbour + 1], 0))).unwrap();
            let mut stream = within(socket.connect(web.address)).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: jo").await.unwrap();
            silent.push(stream);
        }
    }
    for _ in 0..8 {
        let mut own = web.connect().await;
        own.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        silent.push(own);
    }
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
    // The youngest of each were not in anybody's way.
    let mut youngest = silent.pop().unwrap();
    within(youngest.write_all(b"Host: joker\r\n\r\n")).await.unwrap();
    let mut answer = String::new();
    within(youngest.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_request_for_another_host_is_misdirected() {
    let web = Web::new(web::WebLimits::default());
    let asked = async |target: &str, host: &str| {
        let mut stream = web.connect().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        within(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let address = web.address.to_string();
    for page in ["/", "/status", "/metrics", "/healthz"] {
        for host in [address.as_str(), "joker", "localhost:9101"] {
            let answer = asked(page, host).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        }
        let absolute = format!("http://attacker.example{page}");
        for (target, host) in [(page, "attacker.example"), (&absolute, "joker")] {
            let answer = asked(target, host).await;
            assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
            assert!(answer.contains("[metrics]") && !answer.contains("1a2b3c4"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_busy_port_is_tried_again() {
    let address = free_address();
    let busy = TcpListener::bind(address).await.unwrap();
    let listen_again = Duration::from_millis(20);
    let web = Web::on(address, web::WebLimits { listen_again, ..web::WebLimits::default() });
    // It has met the busy port once this is answered by somebody else.
    let (accepted, _) = within(async { tokio::join!(busy.accept(), web.connect()) }).await;
    drop((accepted, busy));
    within(async {
        loop {
            let Ok(mut stream) = TcpStream::connect(address).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: joker\r\n\r\n").await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            if answer.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    })
    .await;
}
