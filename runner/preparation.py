"""What must be known before a sandbox can be made; settled once, and then read from disk."""

from policies.hosts import open_profiles
from runner import repo_settings
from runner.guard import check_connections, open_ports
from runner.narration import Narration
from runner.pictures import Shown
from runner.protocol import Launch, RunKey
from runner.rundir import Prepared, RunDir
from runner.sandbox import Sandbox, SandboxSpec, stricter
from runner.session import Session
from runner.station import Station


class Preparation:
    """Errors: those of `serve`, of git and of `.errand.yml`."""

    def __init__(self, run: RunKey, station: Station, files: RunDir) -> None:
        self._run = run
        self._station = station
        self._files = files

    async def launch(self) -> Launch:
        """As this host has it, else as `serve` has it."""
        launch = self._files.read("launch", Launch)
        if launch is None:
            launch = await self._station.serve.launch(self._run)
            self._files.write("launch", launch)
        return launch

    async def settle(self, launch: Launch) -> Prepared:
        """Fetch the repository, and those it may read; settle with its settings what is to run."""
        known = self._files.read("prepared", Prepared)
        if known is not None:
            return known
        station = self._station
        access = await station.serve.access(self._run, launch.repo)
        checkout = await station.mirrors.refresh(launch, access)
        for read in launch.reads:
            await station.mirrors.fetch(read, await station.serve.access(self._run, read.repo))
        for picture in launch.pictures:
            content = await station.serve.picture(self._run, picture.name)
            if content is not None:
                self._files.keep_picture(picture.name, content)
        settings = repo_settings.parse(checkout.settings)
        agent = repo_settings.choose_agent(launch, settings, station.catalogue)
        check_connections(launch, agent, secrets=station.secrets)
        image = repo_settings.choose_image(settings, agent, station.images)
        registries = await station.backend.registries(image) if launch.profiles else ""
        opened = open_profiles(launch.profiles, registries=registries)
        prepared = Prepared(
            base_commit=checkout.base_commit,
            start_commit=checkout.start_commit,
            settings=settings,
            agent=agent.name,
            image=image,
            hosts=opened.rules,
            empty_profiles=opened.empty,
        )
        self._files.write("prepared", prepared)
        return prepared

    def open(self, launch: Launch, prepared: Prepared) -> Sandbox:
        """A handle; nothing is created yet."""
        station = self._station
        return station.backend.open(
            SandboxSpec(
                installation=station.installation,
                host=station.host,
                run=self._run,
                image=prepared.image,
                mirror=station.mirrors.path(launch.forge, launch.repo),
                reads=tuple((r.repo, station.mirrors.path(r.forge, r.repo)) for r in launch.reads),
                limits=launch.limits,
                runtime=stricter(launch.runtime, station.runtime),
                denied=launch.denied_commands,
                ports=open_ports(launch, prepared.hosts),
            )
        )

    def narration(self, launch: Launch, prepared: Prepared) -> Narration:
        """A new one, that has heard nothing."""
        pictures = tuple(
            Shown(kind=picture.kind, content=content)
            for picture in launch.pictures
            if (content := self._files.picture(picture.name)) is not None
        )
        session = Session(
            launch=launch,
            settings=prepared.settings,
            agent=self._station.catalogue[prepared.agent],
            base_commit=prepared.base_commit,
            start_commit=prepared.start_commit,
            pictures=pictures,
        )
        return Narration(self._run, session)
