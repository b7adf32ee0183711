import { Logger } from '@nestjs/common';
import { caseOf, run, type Outcome } from './cases';
import type { ScenarioName } from './scenarios';
import { World } from './world';

/** What a worker is asked for: a run of a case, or of a scenario in which nothing breaks. */
export interface Job {
  /** Tells jobs apart. */
  readonly id: number;
  readonly case?: string;
  readonly scenario?: ScenarioName;
}

export interface Done extends Omit<Outcome, 'counts'> {
  readonly job: Job;
  readonly counts: [string, number][];
  readonly ms: number;
  /** Whether a run that has found something finds it again, alone on a new world. */
  readonly repeats?: boolean;
}

/** Runs after which a world is replaced: each looks at all that the runs before have left. */
const runsOfAWorld = 40;

const worlds = new Set<World>();

/** What ends a process of the product is a defect of it, in whichever of the worlds it was. */
function noteDefects(): void {
  const note = (how: string) => (error: unknown) => {
    const text = error instanceof Error ? error.stack : String(error);
    for (const world of worlds) world.defects.push(`${how}: ${text}`);
  };
  process.on('unhandledRejection', note('a rejection that nobody handled'));
  process.on('uncaughtException', note('an exception that nobody caught'));
  const exit = process.exit.bind(process);
  process.exit = ((code: number) => {
    if (isOver) exit(code);
    note('the process would have ended')(new Error(`with status ${code}`));
  }) as typeof process.exit;
}
let isOver = false;

/** Opens a world, again where a machine that is busy was too slow for one of the time-outs at its start. */
async function opened(triesLeft = 3): Promise<World> {
  try {
    const world = await World.start();
    worlds.add(world);
    return world;
  } catch (error) {
    if (triesLeft === 1) throw error;
    return opened(triesLeft - 1);
  }
}

async function closed(world: World): Promise<void> {
  await world.end();
  worlds.delete(world);
}

/** Runs jobs on worlds of its own, one after the other. */
class Lane {
  private world: World | undefined;
  private runs = 0;
  private closing: Promise<void> = Promise.resolve();

  async do(job: Job): Promise<Done> {
    const begun = performance.now();
    const outcome = await this.once(job);
    const isBad = outcome.violations.length > 0;
    if (isBad || ++this.runs >= runsOfAWorld) await this.renew();
    const repeats = isBad && job.case ? (await this.once(job)).violations.length > 0 : undefined;
    if (repeats) await this.renew();
    return {
      ...outcome,
      counts: [...outcome.counts],
      job,
      ms: Math.round(performance.now() - begun),
      ...(repeats !== undefined && { repeats }),
    };
  }

  async end(): Promise<void> {
    await this.renew();
    await this.closing;
  }

  private async once(job: Job): Promise<Outcome> {
    this.world ??= await opened();
    const wanted = job.case === undefined ? undefined : caseOf(job.case);
    return run(this.world, wanted?.scenario ?? job.scenario!, wanted);
  }

  private async renew(): Promise<void> {
    // Ending takes as long as what was killed takes to see it; the next world need not wait for it, the one after does.
    await this.closing;
    if (this.world) this.closing = closed(this.world);
    this.closing.catch(() => undefined);
    this.world = undefined;
    this.runs = 0;
  }
}

/** Runs the jobs that the parent sends, on so many worlds at once, until it says that there are no more. */
function work(lanes: number): void {
  if (!process.env.PROOF_LOG) Logger.overrideLogger(false);
  noteDefects();
  const free = Array.from({ length: lanes }, () => new Lane());
  const all = [...free];
  process.on('message', (message: Job | 'end') => {
    if (message === 'end') {
      void Promise.allSettled(all.map((lane) => lane.end())).then(() => {
        isOver = true;
        process.exit(0);
      });
      return;
    }
    const lane = free.pop()!;
    lane
      .do(message)
      .catch((error: Error) => ({ job: message, isReached: false, violations: [error.stack!], counts: [], ms: 0 }))
      .then((done) => {
        free.push(lane);
        process.send!(done);
      })
      .catch(() => undefined);
  });
}

if (require.main === module) {
  // Its parent is gone.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  work(Number(process.argv[2]));
}
