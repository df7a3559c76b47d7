//! Reset: another machine on a disk as it was takes the place of this one.

use std::time::Instant;

use super::driver::{Keeper, MachineSource};
use super::layers;
use super::notes::{host, in_words, note_machine, now_seconds, write_state};
use super::protocol::{Ended, Refusal, RefusalKind};
use super::snapshot::snapshot_refusal;

impl<S: MachineSource> Keeper<'_, S> {
    /// Another machine, on a fresh layer over what the snapshot names, takes the place of this one, which is given up only
    /// when the other answers. What ended with it.
    pub(super) async fn reset(&mut self, snapshot: &str) -> Result<Ended, Refusal> {
        self.life.reset_began();
        let result = self.replace_machine(snapshot).await;
        self.life.reset_over(self.now());
        result
    }

    async fn replace_machine(&mut self, snapshot: &str) -> Result<Ended, Refusal> {
        let target = self.state.disk.find(snapshot).map_err(snapshot_refusal)?;
        let number = self.make_layer()?;
        let before = self.state.clone();
        self.state.disk.branch(number, target);
        let chain = self.state.disk.live_chain();
        let (machine, accelerator) = match self.source.start(&|| layers::open(&self.dir, &chain), &self.witness).await {
            Ok(started) => started,
            Err(error) => {
                self.state = before;
                self.remove_other_layers();
                return Err(Refusal::new(RefusalKind::Host, in_words(&error)));
            }
        };
        self.state.reset_count += 1;
        self.state.reset_at_seconds = Some(now_seconds());
        self.state.changes_seen = None;
        note_machine(&mut self.state, &machine, accelerator);
        if let Err(error) = write_state(&self.dir, &self.state) {
            machine.abandon().await;
            self.take_back(before);
            return Err(host("write the state", &error));
        }
        let ended =
            Ended { commands: self.commands.running(), shells: self.shells.running(), services: self.services.alive() };
        self.shells.end_all("the workspace was reset");
        self.services.tell_of_end("its workspace was reset");
        std::mem::replace(&mut self.machine, machine).abandon().await;
        self.machine_born = Instant::now();
        self.remove_other_layers();
        Ok(ended)
    }
}
