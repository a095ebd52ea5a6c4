//! Sessions of browsers: a session represents a token, so that the browser does not have to keep the token.

mod end;
mod extend;
mod find;
mod sign_in;
mod use_cases;

pub use self::find::SignedIn;
pub use self::sign_in::{SignIn, SignInRejection};
pub use self::use_cases::{IDENTIFIER_BYTES, Sessions};
