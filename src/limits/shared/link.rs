//! The one connection to the store, and whether requests may wait for it. A call that fails or takes too long takes the
//! connection away from all that follow, which so fail at once; in the background another is made and tried with a call of
//! the same kind, before requests wait for it again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::{self, Driver};
use super::script::{self, Script};
use super::settings::{DEADLINE, Store, Unavailable};

/// Between attempts, doubled by each that fails.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// A connection that has lasted so long begins anew with short pauses.
const LASTING: Duration = Duration::from_secs(5);
/// How often an outage of Redis is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// What a new connection is tried with: no rule has this key.
const TRIAL: (&str, [u64; 3]) = ("postern:rate:{trial}", [u32::MAX as u64, 1000, 1]);

/// The one connection to the store, if there is one.
#[derive(Debug)]
pub struct Link {
    current: Mutex<Option<Connection>>,
    up: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Connection {
    inner: MultiplexedConnection,
    broken: CancellationToken,
    cause: Arc<OnceLock<Error>>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("Redis answered with an error: {0}")]
    Call(#[from] RedisError),
    #[error("the connection has ended")]
    Ended,
}

impl Link {
    /// One round trip; two where the store does not know the script, within the same time.
    pub async fn call(
        &self,
        script: &Script,
        key: &str,
        arguments: &[u64],
        deadline: Duration,
    ) -> Result<Value, Unavailable> {
        let mut connection = self.lock().clone().ok_or(Unavailable)?;
        let answer = run(&mut connection.inner, script, key, arguments, deadline).await;
        answer.map_err(|cause| {
            // With less time than a call may take, that it took longer says nothing of the store.
            if matches!(cause, Error::TimedOut(waited) if waited < DEADLINE) {
                return Unavailable;
            }
            // The first to fail says why; if another connection has come meanwhile, that one stays.
            let _ = connection.cause.set(cause);
            self.withdraw(&connection);
            Unavailable
        })
    }

    /// Waits for a connection, however long there is none.
    pub async fn connected(&self) {
        // The sender is our own: it does not go away.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    /// Told of each connection that requests may use.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Keeps a connection as long as it is polled.
    pub async fn keep(self: Arc<Self>, store: Store) {
        let mut pause = MIN_PAUSE;
        let mut told: Option<Instant> = None;
        let mut news = true;
        loop {
            let begin = Instant::now();
            let error = match connect(&store).await {
                Ok((connection, driver)) => {
                    self.offer(connection.clone());
                    if news {
                        tracing::info!(host = store.host, port = store.port, "connected to Redis");
                        news = false;
                    }
                    tokio::select! {
                        () = connection.broken.cancelled() => {}
                        _ = driver => self.withdraw(&connection),
                    }
                    connection.cause.get().unwrap_or(&Error::Ended).to_string()
                }
                Err(error) => error.to_string(),
            };
            if told.is_none_or(|told| told.elapsed() >= LOG_EVERY) {
                told = Some(Instant::now());
                news = true;
                tracing::warn!(host = store.host, port = store.port, %error, "Redis is unavailable: trying again");
            }
            if begin.elapsed() >= LASTING {
                pause = MIN_PAUSE;
            }
            sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }

    fn offer(&self, connection: Connection) {
        *self.lock() = Some(connection);
        self.up.send_replace(true);
    }

    fn withdraw(&self, connection: &Connection) {
        connection.broken.cancel();
        let mut current = self.lock();
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(&current.cause, &connection.cause))
        {
            *current = None;
            self.up.send_replace(false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.current.lock()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self {
            current: Mutex::default(),
            up: watch::Sender::new(false),
        }
    }
}

/// One that has shown that it answers in time.
async fn connect(store: &Store) -> Result<(Connection, Driver), Error> {
    let (mut inner, driver) = dial::dial(store).await?;
    let (key, arguments) = TRIAL;
    run(&mut inner, &script::TAKE, key, &arguments, DEADLINE).await?;
    let connection = Connection {
        inner,
        broken: CancellationToken::new(),
        cause: Arc::default(),
    };
    Ok((connection, driver))
}

async fn run(
    connection: &mut MultiplexedConnection,
    script: &Script,
    key: &str,
    arguments: &[u64],
    deadline: Duration,
) -> Result<Value, Error> {
    let call = async {
        match command(connection, &script.by_hash(key, arguments)).await {
            // SCRIPT FLUSH, a restart, a failover.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command(connection, &script.by_text(key, arguments)).await
            }
            answer => answer,
        }
    };
    Ok(timeout(deadline, call).await.map_err(|_| Error::TimedOut(deadline))??)
}

async fn command(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    // An error that the store answers with is a value, too.
    connection.send_packed_command(command).await?.extract_error()
}
