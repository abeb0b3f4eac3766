//! The object as the system bus has it, where anybody can call it.
//!
//! A call that only looks is answered at once, one after the other. Of a caller that
//! wants to change something the bus is asked who it is, and polkit whether it may;
//! that waits beside the others, in a place of its own, of which there are few, and
//! fewer for one caller and for one user. Nothing may be waited for in between: zbus
//! reads no more while its queue of calls is full, and so not the bus's answer either.
//!
//! A surprise: zbus's macro cannot say this of single methods, so its trait is
//! implemented by hand here; all of it is passed on.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use zbus::export::async_trait::async_trait;
use zbus::message::{Flags, Header, Message};
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, ObjectServer, OwnedVariant, Variant, fdo};

use super::object::{Agent, Failure, uid_of};
use crate::dbus::is_cut;

/// Methods that only look.
const LOOKS: [&str; 3] = ["Status", "History", "Explain"];
/// The longest call of another method, in bytes: a commit, a reason.
const LONGEST: usize = 8 << 10;

/// The object, for anybody.
pub(super) struct Public {
    agent: Agent,
    /// Places of callers, by their names on the bus.
    callers: Arc<Places<String>>,
    /// Places of the users that polkit is asked about.
    users: Arc<Places<u32>>,
}

/// Calls that wait: how many, and whose they are.
struct Places<K> {
    taken: Mutex<HashMap<K, usize>>,
    /// Most that wait at the same time.
    all: usize,
    /// Most of these that wait for one caller or user.
    of_one: usize,
}

/// A place that is taken, for as long as this lives.
struct CallerPlace<K: Eq + Hash> {
    places: Arc<Places<K>>,
    of: K,
}

impl Public {
    pub(super) fn new(agent: Agent) -> Self {
        let (callers, users) = (Places::new(64, 8), Places::new(16, 2));
        Self { agent, callers, users }
    }

    /// Lets a call wait beside the others, if there is room for it.
    fn set_aside(
        &self,
        connection: &Connection,
        message: &Message,
        name: &MemberName<'_>,
    ) -> Result<(), Failure> {
        if message.data().len() > LONGEST {
            return Err(too_long());
        }
        let caller = message.header().sender().map(ToString::to_string).unwrap_or_default();
        let place = CallerPlace::take(&self.callers, caller)?;
        let (agent, users) = (self.agent.clone(), self.users.clone());
        let (connection, message, name) = (connection.clone(), message.clone(), name.to_owned());
        tokio::spawn(async move {
            let managed = manage(&agent, &users, &connection, &message, name).await;
            let header = message.header();
            if let Err(error) = managed
                && !header.primary().flags().contains(Flags::NO_REPLY_EXPECTED)
                && let Err(error) = connection.reply_dbus_error(&header, error).await
            {
                tracing::debug!("a caller could not be answered: {error}");
            }
            drop(place);
        });
        Ok(())
    }
}

impl<K> Places<K> {
    fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), all, of_one })
    }
}

impl<K: Eq + Hash + Clone> CallerPlace<K> {
    fn take(places: &Arc<Places<K>>, of: K) -> Result<Self, Failure> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.get(&of).copied().unwrap_or_default();
        let why = if of_one >= places.of_one {
            "too many of your calls are waiting already; try again later"
        } else if taken.values().sum::<usize>() >= places.all {
            "too many calls are waiting already; try again later"
        } else {
            taken.insert(of.clone(), of_one + 1);
            return Ok(Self { places: places.clone(), of });
        };
        Err(Failure::Busy(why.into()))
    }
}

impl<K: Eq + Hash> Drop for CallerPlace<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.of) {
            Some(of_one) if *of_one > 1 => *of_one -= 1,
            Some(_) | None => drop(taken.remove(&self.of)),
        }
    }
}

fn too_long() -> Failure {
    Failure::InvalidArgument("that is longer than it may be".into())
}

/// Makes a call that may have to wait for polkit.
async fn manage(
    agent: &Agent,
    users: &Arc<Places<u32>>,
    connection: &Connection,
    message: &Message,
    name: MemberName<'_>,
) -> Result<(), BoxDBusError> {
    let uid = uid_of(&message.header(), connection).await;
    let _place = match uid.filter(|uid| *uid != 0) {
        // Root waits for nobody; whom the bus does not know is turned away.
        None => None,
        Some(uid) => {
            let place = CallerPlace::take(users, uid);
            Some(place.map_err(|busy| Box::new(busy) as BoxDBusError)?)
        }
    };
    match agent.call(connection.object_server(), connection, message, name) {
        DispatchResult::Async(call) => call.await,
        // It was found a moment ago.
        DispatchResult::NotFound | DispatchResult::RequiresMut => Ok(()),
    }
}

#[async_trait]
impl Interface for Public {
    fn name() -> InterfaceName<'static> {
        Agent::name()
    }

    fn spawn_tasks_for_methods(&self) -> bool {
        self.agent.spawn_tasks_for_methods()
    }

    fn call<'call>(
        &'call self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        if is_cut(message) {
            return DispatchResult::new_async(connection, message, async {
                Err::<(), _>(too_long())
            });
        }
        match self.agent.call(server, connection, message, name.clone()) {
            // Nothing of the call is done yet: it is dropped, and made there.
            DispatchResult::Async(_) if !LOOKS.contains(&name.as_str()) => {
                match self.set_aside(connection, message, &name) {
                    Ok(()) => DispatchResult::Async(Box::pin(std::future::ready(Ok(())))),
                    Err(failure) => DispatchResult::new_async(connection, message, async {
                        Err::<(), _>(failure)
                    }),
                }
            }
            call @ (DispatchResult::Async(_)
            | DispatchResult::NotFound
            | DispatchResult::RequiresMut) => call,
        }
    }

    fn call_mut<'call>(
        &'call mut self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        self.agent.call_mut(server, connection, message, name)
    }

    async fn get(
        &self,
        property: &str,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        self.agent.get(property, server, connection, header, emitter).await
    }

    async fn get_all(
        &self,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        self.agent.get_all(server, connection, header, emitter).await
    }

    fn set<'call>(
        &'call self,
        property: &'call str,
        value: &'call Variant<'_>,
        server: &'call ObjectServer,
        connection: &'call Connection,
        header: Option<&'call Header<'_>>,
        emitter: &'call SignalEmitter<'_>,
    ) -> DispatchResult<'call> {
        self.agent.set(property, value, server, connection, header, emitter)
    }

    async fn set_mut(
        &mut self,
        property: &str,
        value: &Variant<'_>,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        self.agent.set_mut(property, value, server, connection, header, emitter).await
    }

    fn introspect_to_writer(&self, writer: &mut dyn std::fmt::Write, level: usize) {
        self.agent.introspect_to_writer(writer, level);
    }
}
