//! What `PLAIN` says (RFC 4616).

use alloc::boxed::Box;

use crate::exchange::End;
use crate::prepare::{self, Secret};

/// User and password of the one message of `PLAIN`: `[authorization] NUL user NUL password`.
pub(crate) fn read(message: &[u8]) -> Result<(Box<str>, Secret), End> {
    let text = core::str::from_utf8(message).map_err(|_| End::Malformed)?;
    let mut parts = text.split('\0');
    let (Some(acts_as), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(End::Malformed);
    };
    let user = prepare::name(user).map_err(|_| End::Denied)?;
    let password = prepare::password(password).map_err(|_| End::Denied)?;
    if !may_act_as(&user, acts_as) {
        return Err(End::Denied);
    }
    Ok((user, password))
}

/// Whether `user` may act as the authorization identity that a client asked for: nobody but itself, which is also
/// what nothing stands for.
pub(crate) fn may_act_as(user: &str, acts_as: &str) -> bool {
    acts_as.is_empty() || prepare::name(acts_as).is_ok_and(|name| *name == *user)
}
