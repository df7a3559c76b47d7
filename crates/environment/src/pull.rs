//! Makes an environment: packages, image, configuration in a machine, seal. Everything is staged; nothing is half-installed.

use std::time::{SystemTime, UNIX_EPOCH};

use pyro_store::environment_record::{
    ENVIRONMENT_RECORD_VERSION, EnvironmentRecord, KernelReference, PackageRecord, RootfsRecord,
};
use pyro_store::lock::{Lock, LockError};
use pyro_store::staging::{self, Staging};

use super::catalog::CatalogEntry;
use super::error::io_error;
use super::package::Package;
use super::rootfs::{self, BuiltRootfs};
use super::sources::debian::{self, Follow, Want};
use super::{
    EnvironmentError, Environments, FinishJob, Finisher, GuestKernel, InstalledEnvironment, Pull, Pulled, cache,
    configure, kernel,
};
use crate::progress::{Progress, Reporter, Unit};

/// Room for a kernel, its modules and an initramfs.
const KERNEL_BYTES: u64 = 160 << 20;
/// Room for what the packages' scripts make, and slack.
const CONFIGURED_BYTES: u64 = 128 << 20;
/// A disk with less is full.
const FULL_BYTES: u64 = 1 << 20;

/// All that an environment is made of.
struct Ingredients {
    packages: Vec<Package>,
    kernel: ReadyKernel,
}

/// What stands in the manifest for the kernel, and the kernel itself.
struct ReadyKernel {
    reference: Option<KernelReference>,
    kernel: GuestKernel,
}

impl Environments {
    pub(super) async fn pull_whole(
        &self,
        entry: &CatalogEntry,
        pull: Pull<'_>,
        report: Reporter<'_>,
    ) -> Result<Pulled, EnvironmentError> {
        let _lock = self.wait_for_turn(&entry.name, report).await?;
        staging::sweep(&self.home).map_err(io_error("clean", &self.home.staging_dir()))?;
        if !pull.force
            && let Some(environment) = self.still_good(entry, report).await?
        {
            return Ok(Pulled { environment, fresh: false });
        }
        // Asked again at the end; but minutes of work need not show what is known now.
        drop(self.hold_alone(&entry.name, &cache::dir_of(&self.home, &entry.name))?);
        let packages = self.acquire(&entry.release, entry.packages.clone(), Follow::All, report).await?;
        let kernel = self.provide_kernel(&entry.release, report).await?;
        self.check_room(image_bytes(&packages) + CONFIGURED_BYTES)?;
        self.install(entry, Ingredients { packages, kernel }, pull.finisher, report).await?;
        Ok(Pulled { environment: self.open(&entry.name)?, fresh: true })
    }

    /// The environment if it is there and whole, with its kernel fetched again where only that is missing.
    async fn still_good(
        &self,
        entry: &CatalogEntry,
        report: Reporter<'_>,
    ) -> Result<Option<InstalledEnvironment>, EnvironmentError> {
        match self.open(&entry.name) {
            Ok(environment) => Ok(Some(environment)),
            Err(EnvironmentError::NotInstalled { .. }) => Ok(None),
            Err(EnvironmentError::KernelMissing { .. }) => {
                let ready = self.provide_kernel(&entry.release, report).await?;
                let stored = cache::read(&self.home, &entry.name)?;
                if let Some(mut stored) = stored {
                    stored.record.kernel = ready.reference;
                    cache::write_manifest(&stored.dir, &stored.record)?;
                }
                self.open(&entry.name).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    async fn wait_for_turn(&self, name: &str, report: Reporter<'_>) -> Result<Lock, EnvironmentError> {
        let path = cache::lock_of(&self.home, name);
        match Lock::try_take(&path) {
            Err(LockError::Held { holder, .. }) => {
                report(Progress::Note(format!("process {holder} is pulling {name} already: waiting for it")));
                let waiting = tokio::task::spawn_blocking(move || Lock::wait(&path));
                Ok(waiting.await.map_err(|_| EnvironmentError::Stopped)??)
            }
            result => Ok(result?),
        }
    }

    async fn acquire(
        &self,
        release: &str,
        packages: Vec<String>,
        follow: Follow<'static>,
        report: Reporter<'_>,
    ) -> Result<Vec<Package>, EnvironmentError> {
        let include_essential = matches!(follow, Follow::All);
        let want = Want { release: release.to_owned(), packages, include_essential, follow };
        Ok(debian::acquire(&self.home, &self.settings.debian, &self.settings.proxy, &want, report).await?)
    }

    /// The user's kernel if they named one, otherwise the archive's newest.
    async fn provide_kernel(&self, release: &str, report: Reporter<'_>) -> Result<ReadyKernel, EnvironmentError> {
        if self.settings.kernel.is_some() {
            return Ok(ReadyKernel { reference: None, kernel: self.custom_kernel()? });
        }
        let wanted = self.catalog.kernel_package.clone();
        let packages = self.acquire(release, vec![wanted.clone()], Follow::OnlyPrefix("linux-image-"), report).await?;
        // The wanted package only depends on the one that has the kernel in it, which comes first therefore.
        let mut packages = packages.into_iter();
        let package = packages.next().ok_or(EnvironmentError::NoKernelPackage { package: wanted })?;
        let led_by = packages.map(|package| record_of(&package)).collect();
        let digest = kernel::debian_digest(&package);
        let dir = self.home.kernels_dir().join(&digest);
        if kernel::read_record(&dir).is_err() {
            self.check_room(KERNEL_BYTES)?;
            report(Progress::Stage { name: "prepare kernel", unit: Unit::None, total: None });
            let staging = Staging::create(&self.home, "kernel")?;
            let (package, target) = (package.clone(), dir.clone());
            let build = tokio::task::spawn_blocking(move || {
                kernel::build_debian(&package, staging.dir())?;
                staging.publish(&target).map_err(io_error("write", &target))
            });
            build.await.map_err(|_| EnvironmentError::Stopped)??;
        }
        let kernel = kernel::open(&dir, self.settings.agent)?;
        let reference =
            KernelReference { digest, release: kernel.release.clone(), package: record_of(&package), led_by };
        Ok(ReadyKernel { reference: Some(reference), kernel })
    }

    async fn install(
        &self,
        entry: &CatalogEntry,
        ingredients: Ingredients,
        finisher: &dyn Finisher,
        report: Reporter<'_>,
    ) -> Result<(), EnvironmentError> {
        let Ingredients { packages, kernel } = ingredients;
        let mut records: Vec<PackageRecord> = packages.iter().map(record_of).collect();
        records.sort_by(|left, right| left.name.cmp(&right.name));
        let (staging, built) = self.build_image(packages, report).await?;
        let total = Some(built.unconfigured_count);
        report(Progress::Stage { name: "configure packages", unit: Unit::Packages, total });
        let job = FinishJob {
            rootfs: staging.dir().join(cache::ROOTFS_FILE),
            kernel: kernel.kernel,
            script: configure::script(&built),
            timeout_seconds: configure::TIMEOUT_SECONDS,
        };
        // What a guest could not write shows as some failure of its scripts: whether the disk is full is the better question.
        if let Err(error) = finisher.finish(job, report).await {
            return Err(match self.check_room(FULL_BYTES) {
                Err(EnvironmentError::NoRoom { path, .. }) => {
                    EnvironmentError::DiskFull { path, source: Box::new(error.into()) }
                }
                _ => error.into(),
            });
        }

        report(Progress::Stage { name: "seal", unit: Unit::None, total: None });
        let record = EnvironmentRecord {
            version: ENVIRONMENT_RECORD_VERSION,
            name: entry.name.clone(),
            origin: format!("Debian {}", entry.release),
            built_at_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            pyro_version: self.settings.pyro_version.to_owned(),
            kernel: kernel.reference,
            rootfs: RootfsRecord { sha256: String::new(), size_bytes: 0 },
            packages: records,
        };
        let environments = self.clone();
        let sealing = tokio::task::spawn_blocking(move || environments.seal_and_publish(staging, record));
        sealing.await.map_err(|_| EnvironmentError::Stopped)?
    }

    async fn build_image(
        &self,
        packages: Vec<Package>,
        report: Reporter<'_>,
    ) -> Result<(Staging, BuiltRootfs), EnvironmentError> {
        let staging = Staging::create(&self.home, "environment")?;
        let image = staging.dir().join(cache::ROOTFS_FILE);
        let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
        // The staging directory goes with the work: when nobody waits for it any more, it is removed after it.
        let work = tokio::task::spawn_blocking(move || {
            let pass_on = move |progress| drop(sender.send(progress));
            let mut options = std::fs::File::options();
            options.read(true).write(true).create_new(true);
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(&image).map_err(io_error("create", &image))?;
            let built = rootfs::build(&packages, &image, file, &pass_on)?;
            Ok((staging, built))
        });
        while let Some(progress) = reports.recv().await {
            report(progress);
        }
        work.await.map_err(|_| EnvironmentError::Stopped)?
    }

    fn seal_and_publish(&self, staging: Staging, mut record: EnvironmentRecord) -> Result<(), EnvironmentError> {
        let (sha256, size_bytes) = cache::seal(staging.dir())?;
        record.rootfs = RootfsRecord { sha256, size_bytes };
        cache::write_manifest(staging.dir(), &record)?;
        let target = cache::dir_of(&self.home, &record.name);
        let _alone = self.hold_alone(&record.name, &target)?;
        staging.publish(&target).map_err(io_error("write", &target))
    }

    fn check_room(&self, needed_bytes: u64) -> Result<(), EnvironmentError> {
        let path = self.home.cache_dir();
        let stat = rustix::fs::statvfs(path).map_err(|errno| io_error("look at the disk of", path)(errno.into()))?;
        let free_bytes = stat.f_bavail * stat.f_frsize;
        if free_bytes < needed_bytes {
            return Err(EnvironmentError::NoRoom { path: path.to_owned(), needed_bytes, free_bytes });
        }
        Ok(())
    }
}

fn image_bytes(packages: &[Package]) -> u64 {
    packages.iter().map(Package::installed_bytes).sum()
}

fn record_of(package: &Package) -> PackageRecord {
    PackageRecord {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        sha256: package.sha256.clone(),
    }
}
