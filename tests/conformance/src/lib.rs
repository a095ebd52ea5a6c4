//! Attacks an edge in every way that must fail, and checks properties instead of a list of expected responses:
//!
//! - no request reaches a route for which its key lacks the scope, however the upstream interprets the path;
//! - no identity header comes from a client, and no credential is forwarded;
//! - a request gets one response or a closed connection: never two responses, and never neither.
//!
//! | module | idea |
//! |---|---|
//! | [`edge`] | the attacked edge, and the paths that its key may call |
//! | [`request`] | a request, valid or not, as bytes of HTTP/1.1 and frames of HTTP/2 |
//! | [`variants`] | the attacks |
//! | [`exchange`] | sending an attack, and its responses |
//! | [`readings`] | how servers interpret a path |
//! | [`property`] | the properties, and their violations |
//! | [`limits`] | the properties of limits, tested on an edge that is started here |
//! | [`campaign`] | all attacks on one edge, and their results |
//! | [`local`] | edges that are started here for the attacks |

pub mod campaign;
pub mod edge;
pub mod exchange;
pub mod limits;
pub mod local;
pub mod property;
pub mod readings;
pub mod request;
pub mod variants;
