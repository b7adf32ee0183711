import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { conversation, type Message, type Protocol, type Side } from './messages';

/** Where a wire leads: the port of an app or of a counterpart on this machine. */
export interface WireEnd {
  readonly host: string;
  readonly port: number;
}

/** A message as it passes a wire. */
export interface Passing extends Message {
  /** Which app it is of, and which counterpart, such as `provisioning-ses`. */
  readonly wire: string;
  readonly from: Side;
}

/**
 * What happens to a message. `before` and `after` say whether it still gets to the other side. `kill` ends the
 * connection; a process that is to die is killed by `onFault`, which is called at the same moment.
 */
export type Fate =
  | 'pass'
  | { readonly kill: 'before' | 'after'; readonly onFault?: () => void }
  | { readonly delayMs: number; readonly onFault?: () => void };

export type Judge = (message: Passing) => Fate;

/** Stands between an app and a counterpart, and has each message of their protocol judged before it passes it on. */
export class Wire {
  private readonly links = new Set<Link>();
  private server: Server | undefined;

  private constructor(
    readonly name: string,
    private readonly protocol: Protocol,
    private readonly end: WireEnd,
    private readonly judge: Judge,
  ) {}

  static async open(name: string, protocol: Protocol, end: WireEnd, judge: Judge): Promise<Wire> {
    const wire = new Wire(name, protocol, end, judge);
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => wire.link(socket));
    wire.server = server;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return wire;
  }

  get port(): number {
    return (this.server!.address() as AddressInfo).port;
  }

  /**
   * Ends all connections and refuses new ones, as the kernel does when a process dies. What was passed on already still
   * arrives.
   */
  cut(): void {
    this.server?.close();
    for (const link of this.links) link.end();
  }

  private link(client: Socket): void {
    const server = connect({ ...this.end, allowHalfOpen: true, noDelay: true });
    const link = new Link(this.name, this.protocol, client, server, this.judge, () => this.links.delete(link));
    this.links.add(link);
  }
}

interface Direction {
  readonly from: Socket;
  readonly to: Socket;
  readonly waiting: Message[];
  isHeld: boolean;
  isOver: boolean;
}

/** One connection. */
class Link {
  private readonly directions: Record<Side, Direction>;
  private isEnded = false;

  constructor(
    private readonly wire: string,
    protocol: Protocol,
    client: Socket,
    server: Socket,
    private readonly judge: Judge,
    private readonly gone: () => void,
  ) {
    const direction = (from: Socket, to: Socket): Direction => ({
      from,
      to,
      waiting: [],
      isHeld: false,
      isOver: false,
    });
    this.directions = { client: direction(client, server), server: direction(server, client) };
    const talk = conversation(protocol);
    for (const side of ['client', 'server'] as const) {
      const { from, waiting } = this.directions[side];
      from
        .on('data', (piece) => {
          if (this.isEnded) return;
          waiting.push(...talk.push(side, piece));
          this.pass(side);
        })
        .on('end', () => {
          this.directions[side].isOver = true;
          this.pass(side);
        })
        .on('error', () => this.end())
        .on('close', () => this.end());
    }
  }

  /** Ends both sides. What was written to them is still sent. */
  end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    for (const { from } of Object.values(this.directions)) {
      from.end();
      // An end that is not answered would leave the socket half open.
      setTimeout(() => from.destroy(), 50).unref();
    }
    this.gone();
  }

  private pass(side: Side): void {
    const direction = this.directions[side];
    const { to, waiting } = direction;
    // What came together goes on together: a write for each message would cost more than all else that is done here.
    to.cork();
    while (!direction.isHeld && !this.isEnded && waiting.length > 0) {
      const message = waiting.shift()!;
      const fate = this.judge({ ...message, wire: this.wire, from: side });
      if (fate === 'pass') to.write(message.octets);
      else if ('kill' in fate) {
        if (fate.kill === 'after') to.write(message.octets);
        to.uncork();
        this.end();
        fate.onFault?.();
      } else {
        direction.isHeld = true;
        setTimeout(() => {
          direction.isHeld = false;
          if (!this.isEnded) to.write(message.octets);
          this.pass(side);
        }, fate.delayMs).unref();
        fate.onFault?.();
      }
    }
    to.uncork();
    if (direction.isOver && waiting.length === 0 && !direction.isHeld && !this.isEnded) to.end();
  }
}
