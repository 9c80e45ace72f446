//! Updates of a compose app to releases that are well, or are not.

use super::{EXTRA_RUNS, FILES, FOLDER, SIDE, SIDE_RUNS, VOLUME, WEB, WEB_RUNS, update};
use crate::real::walk::{Act, Row};
use Act::Ask;

const WEB_5: &str = "image prod_730_web:5.0.0";
const WEB_6: &str = "image prod_730_web:6.0.0";

pub const ROWS: &[Row] = &[
    Row {
        action: "run, fresh, images missing",
        act: Ask(|app| app),
        reports: &["DOWNLOADING", "STARTING", "RUNNING"],
        there: &[WEB_RUNS, SIDE_RUNS, WEB, SIDE, VOLUME, FOLDER, FILES],
        says: &[],
    },
    Row {
        action: "update to a release that ends at once",
        act: Ask(|app| update(app, "5.0.0")),
        reports: &["UPDATING", "PRESENT+canceled", "RUNNING+canceled"],
        there: &[WEB_RUNS, SIDE_RUNS, WEB, WEB_5, SIDE, VOLUME, FOLDER, FILES],
        says: &[("prod", "comp 5.0.0 did not prove itself: service web e")],
    },
    Row {
        action: "update to a release that is never healthy",
        act: Ask(|app| update(app, "6.0.0")),
        reports: &["UPDATING+canceled", "PRESENT+canceled", "RUNNING+canceled"],
        there: &[WEB_RUNS, SIDE_RUNS, WEB, WEB_5, WEB_6, SIDE, VOLUME, FOLDER, FILES],
        says: &[("prod", "comp 6.0.0 did not prove itself: it was not healthy within")],
    },
    Row {
        action: "update to a release that is healthy",
        act: Ask(|app| update(app, "8.0.0")),
        reports: &["UPDATING+canceled", "PRESENT+pending", "RUNNING"],
        there: &[
            "container prod_730_comp_compose/web running prod_730_web:8.0.0",
            EXTRA_RUNS,
            WEB,
            WEB_5,
            WEB_6,
            "image prod_730_web:8.0.0",
            SIDE,
            VOLUME,
            FOLDER,
            FILES,
        ],
        says: &[("prod", "comp is running (8.0.0)")],
    },
];
