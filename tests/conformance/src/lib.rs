//! Attacks an edge with every way in that must stay shut, and judges it by properties, not by a list of answers:
//!
//! - no request reaches a route for which its key has no scope, however the upstream reads the path;
//! - no identity header comes from a client, and no credential goes on;
//! - a request gets one answer or a closed connection: never two, and never none.
//!
//! | module | idea |
//! |---|---|
//! | [`edge`] | what is attacked, and where its key may go |
//! | [`request`] | a request, valid or not, as bytes of HTTP/1.1 and frames of HTTP/2 |
//! | [`variants`] | the attacks |
//! | [`exchange`] | sending one, and what came back |
//! | [`readings`] | how servers read a path |
//! | [`property`] | what must hold, and what did not |
//! | [`limits`] | what a limit must do, tried on an edge that is started here |
//! | [`campaign`] | all attacks on one edge, and the count of them |
//! | [`local`] | edges that are started here to be attacked |

pub mod campaign;
pub mod edge;
pub mod exchange;
pub mod limits;
pub mod local;
pub mod property;
pub mod readings;
pub mod request;
pub mod variants;
