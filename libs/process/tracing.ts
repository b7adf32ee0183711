import { loadSettings, tracingSettings } from '@app/runtime';
import { startTracing } from '@app/tracing';
import { Logger } from '@nestjs/common';
import type { HttpTracesOptions } from './http-traces';

/** Milliseconds between two lines of the log about spans that were not exported. */
const quietMs = 60_000;

/**
 * Begins to trace this process where the settings name a collector.
 *
 * @param app the service is called `sendmux-<app>`, unless the settings name it.
 * @returns how to trace requests; undefined where nothing is traced, and nothing was loaded for it.
 * @throws {SettingsInvalid}
 */
export async function traceProcess(app: string): Promise<HttpTracesOptions | undefined> {
  const settings = loadSettings(process.env, tracingSettings);
  if (!settings.OTEL_EXPORTER_OTLP_ENDPOINT || settings.OTEL_SDK_DISABLED) return undefined;
  const logger = new Logger('traces');
  let toldAt = -Infinity;
  await startTracing({
    service: `sendmux-${app}`,
    sampler: settings.OTEL_TRACES_SAMPLER,
    ratio: settings.OTEL_TRACES_SAMPLER_ARG,
    exportEveryMs: settings.OTEL_BSP_SCHEDULE_DELAY,
    mostWaiting: settings.OTEL_BSP_MAX_QUEUE_SIZE,
    headers: () => settings.OTEL_EXPORTER_OTLP_HEADERS,
    failed: (reason) => {
      if (performance.now() - toldAt < quietMs) return;
      toldAt = performance.now();
      logger.warn(`Spans are not exported, and are lost: ${reason.slice(0, 500)}`);
    },
  });
  return { continuesOthers: settings.OTEL_PROPAGATORS.includes('tracecontext') };
}
