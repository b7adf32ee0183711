import type { AddressInfo, Socket } from 'node:net';
import {
  Controller,
  Delete,
  Get,
  Header,
  HttpCode,
  Injectable,
  NotFoundException,
  Param,
  Query,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { simpleParser } from 'mailparser';
import { SMTPServer, type SMTPServerDataStream, type SMTPServerSession } from 'smtp-server';
import { Faults } from './faults';
import { SandboxState, type CaughtMail } from './state';

/** Number of mails that are kept; older ones are removed. */
const kept = 1_000;

/** Accepts every mail and delivers none. */
@Injectable()
export class SmtpSink implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly server = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    logger: false,
    // A connection left open by the fault `hang` must not delay the shutdown.
    closeTimeout: 500,
    onRcptTo: (_address, _session, callback) => {
      const mode = this.faults.take('smtp', { among: ['refuse', 'tempfail', 'hang'] })?.mode;
      if (mode === 'hang') return;
      if (!mode) return callback();
      const responseCode = mode === 'refuse' ? 550 : 451;
      callback(Object.assign(new Error('the sandbox was told to'), { responseCode }));
    },
    onData: (stream, session, callback) => {
      this.keep(stream, session).then(() => {
        if (this.faults.take('smtp', { among: ['hang_up_after'] })) this.hangUp(session.id);
        else callback();
      }, callback);
    },
  });

  constructor(
    private readonly state: SandboxState,
    private readonly faults: Faults,
    private readonly listen: { readonly host: string; readonly port: number },
  ) {
    // A client that closes the connection early is no fault of the sandbox.
    this.server.on('error', () => undefined);
  }

  port(): number {
    return (this.server.server.address() as AddressInfo).port;
  }

  async onApplicationBootstrap(): Promise<void> {
    await new Promise<void>((ready, failed) => {
      this.server.server.once('error', failed);
      this.server.listen(this.listen.port, this.listen.host, ready);
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await new Promise<void>((closed) => this.server.close(closed));
  }

  private hangUp(id: string): void {
    for (const connection of this.server.connections as Set<{ id: string; _socket: Socket }>)
      if (connection.id === id) connection._socket.destroy();
  }

  private async keep(stream: SMTPServerDataStream, session: SMTPServerSession): Promise<void> {
    const mail = await simpleParser(stream);
    const { mails } = this.state.data;
    mails.push({
      id: (mails.at(-1)?.id ?? 0) + 1,
      date: new Date().toISOString(),
      from: mail.from?.text ?? '',
      to: session.envelope.rcptTo.map(({ address }) => address),
      subject: mail.subject ?? '',
      messageId: mail.messageId ?? '',
      text: mail.text ?? '',
      html: mail.html || '',
    });
    if (mails.length > kept) mails.shift();
    this.state.changed();
  }
}

@Controller('mails')
export class MailsController {
  constructor(private readonly state: SandboxState) {}

  /** Lists the mails, the newest first. */
  @Get()
  list(@Query('to') to?: string): CaughtMail[] {
    return this.state.data.mails.filter((mail) => !to || mail.to.includes(to)).reverse();
  }

  @Get(':id')
  read(@Param('id') id: string): CaughtMail {
    const mail = this.state.data.mails.find((each) => String(each.id) === id);
    if (!mail) throw new NotFoundException(`There is no mail ${id}.`);
    return mail;
  }

  /** Shows the HTML part of a mail, as a mail program does. */
  @Get(':id/html')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
  html(@Param('id') id: string): string {
    return this.read(id).html;
  }

  /** Removes the mails up to that with the id `up_to`; all when it is absent. A later one may have come meanwhile. */
  @Delete()
  @HttpCode(204)
  clear(@Query('up_to') upTo = 'Infinity'): void {
    const { mails } = this.state.data;
    mails.splice(0, mails.filter(({ id }) => id <= Number(upTo)).length);
    this.state.changed();
  }
}
