import { Controller, Get, Header } from '@nestjs/common';
import { register } from 'prom-client';

/**
 * Serves the metrics in the text format of Prometheus. Metrics register themselves with `prom-client` where they are
 * measured.
 */
@Controller('metrics')
export class MetricsController {
  @Get()
  @Header('content-type', register.contentType)
  scrape(): Promise<string> {
    return register.metrics();
  }
}
