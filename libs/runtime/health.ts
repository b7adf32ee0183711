import { Controller, Get, Injectable } from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';
import { HealthCheck, HealthCheckService, HealthIndicatorService, type HealthCheckResult } from '@nestjs/terminus';

/** Resolves when well; rejects with a message that says what is wrong. */
export type Probe = () => Promise<unknown>;

/**
 * What the parts of a process say of their own health. `ready`: can do its work now. `live`: still makes progress; when
 * it fails, only a restart helps.
 */
@Injectable()
export class HealthProbes {
  private readonly probes = { live: new Map<string, Probe>(), ready: new Map<string, Probe>() };

  add(kind: 'live' | 'ready', name: string, probe: Probe): void {
    this.probes[kind].set(name, probe);
  }

  of(kind: 'live' | 'ready'): [string, Probe][] {
    return [...this.probes[kind]];
  }
}

/** A probe that takes longer than this has failed. */
const probeTimeoutMs = 3_000;

@ApiExcludeController()
@Controller('health')
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly indicators: HealthIndicatorService,
    private readonly probes: HealthProbes,
  ) {}

  @Get('live')
  @HealthCheck()
  live(): Promise<HealthCheckResult> {
    return this.run('live');
  }

  @Get('ready')
  @HealthCheck()
  ready(): Promise<HealthCheckResult> {
    return this.run('ready');
  }

  private run(kind: 'live' | 'ready'): Promise<HealthCheckResult> {
    return this.health.check(
      this.probes.of(kind).map(([name, probe]) => async () => {
        const indicator = this.indicators.check(name);
        try {
          await within(probeTimeoutMs, probe());
          return indicator.up();
        } catch (error) {
          return indicator.down((error as Error).message);
        }
      }),
    );
  }
}

async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
