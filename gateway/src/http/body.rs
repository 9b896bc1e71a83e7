//! Bodies on their way through: a request's, which may have to be sent twice, and a response's, with which the log line ends.

mod request;
mod response;
mod tap;

pub(crate) use request::{RequestBody, Upload};
pub(crate) use response::{Download, ResponseBody};
pub(crate) use tap::Tap;
