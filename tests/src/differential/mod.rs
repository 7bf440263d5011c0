//! The differential test: random searches of every shape, asked through us of an index of type `ivf` and directly of
//! its twin of type `hnsw`, must get the same answer. Both indices have the same documents on the same shards, went
//! through the same writes, and the twin is asked with more candidates than it has documents, so that it is exact:
//! a difference is a bug, or stands with its reason in [`compare`].
//!
//! Everything is drawn from one seed. `play` makes worlds (a mapping, its documents, their changes) and asks each
//! between its changes; a difference is asked again of smaller requests and of fewer documents until only what
//! matters is left, and printed as calls of `curl`.
//!
//! | file | what | to add one |
//! | --- | --- | --- |
//! | `shapes` | where a knn may stand | a function, a line in `SHAPES` |
//! | `endpoints` | the same at other endpoints and on other targets | a function, a line in `ENDPOINTS` |
//! | `extras` | what may stand beside it in a body | a function, a line in `EXTRAS` |
//! | `parameters` | what may stand in the URL | a line in `PARAMETERS` |
//! | `format` | how a body travels | a variant of `Format` |
//! | `wrong` | input that Elasticsearch refuses | a line in `WRONG_KNN`, `WRONG_BODIES`, `WRONG_TEXTS` |

mod compare;
mod draw;
mod endpoints;
mod extras;
mod format;
mod page;
mod pair;
mod parameters;
mod play;
mod queries;
mod request;
mod shapes;
mod shrink;
mod world;
mod wrong;

pub use page::{Page, page_of_this_version};
pub use play::{Options, Report, play};

/// `major.minor` since which Elasticsearch has something.
type Since = (u32, u32);
