//! The crash loop of PROD apps (apps chapter 5.8): what failed or ended is tried again, later each time.

use super::app::{AppKey, AppState, Stage};
use super::slot::{Crash, Why};
use super::timers::Timer;
use super::{State, backoff, lines};
use std::time::Duration;

/// An app that has run this long has overcome its crashes.
pub(super) const STABLE: Duration = Duration::from_secs(600);

impl State {
    /// Enters or advances the crash loop of a PROD app.
    pub(super) fn crash(&mut self, id: AppKey) {
        if id.stage == Stage::Dev {
            return;
        }
        let jitter = self.random();
        let Some(app) = self.apps.get_mut(&id) else { return };
        let count = app.crash.map_or(0, |crash| crash.count).saturating_add(1);
        let wait = backoff::crash_loop(count, jitter);
        app.crash = Some(Crash { count, waits: true });
        self.timers.set(Timer::CrashLoop(id), self.now.mono + wait);
        self.timers.clear(Timer::Stable(id));
        self.say(id, lines::crash_loop(count, wait));
    }

    /// A request of somebody else than the crash loop: the crashes are forgotten.
    pub(super) fn forget_crashes(&mut self, id: AppKey) {
        if let Some(app) = self.apps.get_mut(&id) {
            app.crash = None;
        }
        for timer in [Timer::CrashLoop(id), Timer::Stable(id), Timer::Drive(id)] {
            self.timers.clear(timer);
        }
    }

    pub(super) fn on_crash_timer(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some(crash) = &mut app.crash else { return };
        crash.waits = false;
        if app.is_settled() {
            app.crash = None;
        } else {
            self.drive(id, Why::Retry);
        }
    }

    pub(super) fn on_stable(&mut self, id: AppKey) {
        if let Some(app) = self.apps.get_mut(&id).filter(|app| app.state == AppState::Running) {
            app.crash = None;
        }
    }
}
