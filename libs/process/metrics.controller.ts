import { Controller, Get, Header } from '@nestjs/common';
import { metricsOfApp } from '@app/runtime';

/**
 * Serves the metrics of the app in the text format of Prometheus. Metrics register themselves where they are measured.
 */
@Controller('metrics')
export class MetricsController {
  private readonly metrics = metricsOfApp();

  @Get()
  @Header('content-type', metricsOfApp().contentType)
  scrape(): Promise<string> {
    return this.metrics.metrics();
  }
}
