import { Controller, Get, Logger } from '@nestjs/common';
import { HealthCheck, HealthCheckService, HealthIndicatorService, type HealthCheckResult } from '@nestjs/terminus';
import { HealthProbes, within } from '@app/runtime';

/** Documenting the answers would load `@nestjs/swagger`, a third of the start of an app that has no documented API. */
const undocumented = { noCache: true, swaggerDocumentation: false };

/** Milliseconds after which a probe has failed. */
const probeTimeoutMs = 3_000;

@Controller('health')
export class HealthController {
  private readonly logger = new Logger(HealthController.name);

  constructor(
    private readonly health: HealthCheckService,
    private readonly indicators: HealthIndicatorService,
    private readonly probes: HealthProbes,
  ) {}

  @Get('live')
  @HealthCheck(undocumented)
  live(): Promise<HealthCheckResult> {
    return this.run('live');
  }

  @Get('ready')
  @HealthCheck(undocumented)
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
          return indicator.down(this.shown(name, error as NodeJS.ErrnoException));
        }
      }),
    );
  }

  /** Gives our own messages. What a counterpart or the network says goes to the log: anybody may read the probes. */
  private shown(name: string, { code, message }: NodeJS.ErrnoException): string {
    if (code === undefined) return message;
    this.logger.warn({ probe: name, code, said: message }, 'a probe fails');
    return 'does not answer; the log says why';
  }
}
