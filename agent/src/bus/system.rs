//! The agent on the system bus: everybody may look, root may manage, and so may
//! whom polkit lets.
//!
//! There may be no bus, and one that is there may be restarted by a switch:
//! it is tried again for as long as the agent runs, and said once.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zbus::fdo::RequestNameFlags;
use zbus::object_server::SignalEmitter;

use super::object::{Agent, Announcer, Callers};
use super::public::Public;
use super::{NAME, PATH};
use crate::control::Control;
use crate::dbus::{Takes, system_bus};

/// Time limit for connecting and for getting the name.
const CONNECT: Duration = Duration::from_secs(10);
/// Time limit for taking in a signal.
const SIGNAL: Duration = Duration::from_secs(5);
/// Pause between the first two tries; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Serves the loop on the system bus until `shutdown` is done.
pub fn serve_on_system_bus(
    control: Control,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown => {}
            () = serve_for_ever(control) => {}
        }
    })
}

async fn serve_for_ever(control: Control) {
    let mut pause = FIRST_PAUSE;
    let mut said = false;
    loop {
        let why = match connect(&control).await {
            Ok((connection, agent)) => {
                tracing::info!("on the system bus as {NAME}");
                (pause, said) = (FIRST_PAUSE, false);
                announce(&connection, agent, control.clone()).await
            }
            Err(error) => error,
        };
        if !said {
            tracing::warn!("not on the system bus: {why}; trying again");
            said = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(control: &Control) -> zbus::Result<(zbus::Connection, Agent)> {
    let agent = Agent::new(control.clone(), Callers::OnTheBus);
    let connected = async {
        let public = Public::new(agent.clone());
        let connection = system_bus(Takes::SERVING).await?.serve_at(PATH, public).build().await?;
        // The object is there before the name is: the first call finds it.
        connection.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE).await?;
        Ok((connection, agent))
    };
    match timeout(CONNECT, connected).await {
        Ok(result) => result,
        Err(_) => Err(zbus::Error::Failure("it does not answer".into())),
    }
}

/// Tells the bus of changes until it is gone, and returns why.
async fn announce(
    connection: &zbus::Connection,
    agent: Agent,
    mut control: Control,
) -> zbus::Error {
    let emitter = match SignalEmitter::new(connection, PATH) {
        Ok(emitter) => emitter.into_owned(),
        Err(error) => return error,
    };
    let mut announcer = Announcer::new(agent, emitter);
    control.shown.mark_unchanged();
    loop {
        tokio::select! {
            () = connection.closed() => return zbus::Error::Failure("it has gone".into()),
            changed = control.shown.changed() => {
                if changed.is_err() {
                    // The agent ends; so does this.
                    std::future::pending::<()>().await;
                }
                match timeout(SIGNAL, announcer.announce()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return zbus::Error::Failure("it takes no signals".into()),
                }
            }
        }
    }
}
