import { Global, Module, type DynamicModule } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { collectDefaultMetrics } from 'prom-client';
import { HealthProbes, metricsOfApp } from '@app/runtime';
import { HealthController } from './health.controller';
import { loggingModule } from './logging.module';
import { MetricsController } from './metrics.controller';
import { RequestLog } from './request-log';

/** Provides what every app has: logs, health and metrics. */
@Global()
@Module({})
export class ProcessModule {
  static forApp(app: string, logLevel: string): DynamicModule {
    const register = metricsOfApp();
    register.setDefaultLabels({ app });
    if (!register.getSingleMetric('process_cpu_seconds_total')) collectDefaultMetrics({ register });
    return {
      module: ProcessModule,
      imports: [loggingModule(app, logLevel), TerminusModule.forRoot({ logger: false })],
      controllers: [HealthController, MetricsController],
      providers: [HealthProbes, { provide: RequestLog, useValue: new RequestLog(app, logLevel) }],
      exports: [HealthProbes],
    };
  }
}
