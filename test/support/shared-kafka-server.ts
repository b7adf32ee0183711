import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { KafkaCluster } from '../../local/embedded-kafka';
import { testKafka } from './kafka';

/**
 * Starts a Kafka for the first worker of a Jest run that asks over HTTP, and gives the same one to the others: each
 * suite is a process of its own, and a start of Kafka takes more time than most suites need of it.
 */
export class SharedKafkaServer {
  private kafka: Promise<KafkaCluster> | undefined;
  private readonly server: Server;

  private constructor() {
    this.server = createServer((_request, response) => {
      this.kafka ??= testKafka();
      this.kafka.then(
        ({ brokers }) => response.end(JSON.stringify(brokers)),
        (error: Error) => response.writeHead(500).end(error.message),
      );
    });
  }

  static async open(): Promise<SharedKafkaServer> {
    const opened = new SharedKafkaServer();
    opened.server.listen(0, '127.0.0.1');
    await once(opened.server, 'listening');
    return opened;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Ends the Kafka, if one was started. */
  async close(): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    await this.kafka?.then((kafka) => kafka.destroy()).catch(() => undefined);
  }
}
