import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { portOf } from '@app/runtime';
import { ended, freePortBlock, isRunning, spawnApp, statusOf, type AppName, type System } from './processes';

/** The apps of one build, with ports of their own, on the databases and brokers of a system. */
export class Fleet {
  private readonly children = new Map<AppName, ChildProcess>();

  private constructor(
    private readonly system: System,
    private readonly name: string,
    private readonly port: number,
    private readonly dist?: string,
  ) {}

  /** @param dist the folder of the build; that of this checkout when absent. */
  static async on(system: System, name: string, dist?: string): Promise<Fleet> {
    return new Fleet(system, name, await freePortBlock(), dist);
  }

  url(app: AppName): string {
    return `http://127.0.0.1:${portOf(app, this.port)}`;
  }

  /** Starts an app, and waits until it is ready. */
  async start(app: AppName): Promise<void> {
    const env = {
      ...this.system.settings,
      PORT: String(this.port),
    };
    const child = spawnApp(app, env, this.logFile(app), this.dist);
    this.children.set(app, child);
    await this.system.until(
      `${app} of ${this.name} is ready`,
      async () => {
        if (!isRunning(child)) throw new Error(`${app} of ${this.name} has ended\n${this.log(app).slice(-3_000)}`);
        return (await statusOf(`${this.url(app)}/health/ready`)) === 200;
      },
      120_000,
    );
  }

  /** Sends SIGTERM, and waits until the process has ended. */
  async stop(app: AppName): Promise<void> {
    await ended(this.children.get(app), 'SIGTERM');
  }

  async end(): Promise<void> {
    await Promise.all([...this.children.keys()].map((app) => this.stop(app)));
  }

  /** Gives everything that an app has logged; nothing of one that was never started. */
  log(app: AppName): string {
    const file = this.logFile(app);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  private get directory(): string {
    return this.system.settings.SENDMUX_DATA_DIR!;
  }

  private logFile(app: AppName): string {
    return join(this.directory, `${this.name}-${app}.log`);
  }
}
