//! Who is calling, and what they may do.
//!
//! [`claims`] reads the caller's claims from call metadata into a [`Principal`], and [`jwt`] from a signed token; [`policy`]
//! knows what a role is worth;
//! [`authorize`] turns a principal and a scope into a [`Permit`], which nothing else can make and every use case demands.

pub mod authenticate;
pub mod authorize;
pub mod claims;
pub mod jwt;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod peer;
pub mod policy;
pub mod principal;

pub use authenticate::{Authentication, Authenticator, CredentialsError};
pub use authorize::{Annotate, Authorizer, ClaimWords, Denied, Export, NoteDecision, Permit, Prove, Read, Record};
pub use jwt::{ClaimNames, JwtConfig};
pub use peer::{Peer, Vouchers};
pub use policy::{Policy, PolicyError, RoleSettings};
pub use principal::{Grant, MAX_SUBJECT_BYTES, Principal};
