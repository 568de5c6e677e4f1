//! The mailbox by which the manager of orders hears which certificates are wanted.

use super::schedule::Wanted;
use crate::object::ObjectId;
use crate::status;

/// Where publish leaves what each object wants.
pub type Mailbox = status::Mailbox<ObjectId, Vec<Wanted>>;
