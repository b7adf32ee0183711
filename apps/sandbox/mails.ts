import type { AddressInfo } from 'node:net';
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

/** Mails kept; older ones go. */
const kept = 1_000;

/** Takes every mail and delivers none. */
@Injectable()
export class SmtpSink implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly server = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    logger: false,
    onRcptTo: (_address, _session, callback) => {
      const fault = this.faults.active.get('smtp')?.mode;
      if (fault === 'refuse' || fault === 'tempfail') {
        this.faults.take('smtp');
        const code = fault === 'refuse' ? 550 : 451;
        return callback(Object.assign(new Error('the sandbox was told to'), { responseCode: code }));
      }
      callback();
    },
    onData: (stream, session, callback) => {
      this.keep(stream, session).then(
        () => {
          if (this.faults.take('smtp') === 'hang_up_after') return stream.destroy(new Error('the sandbox was told to'));
          callback();
        },
        (error: Error) => callback(error),
      );
    },
  });

  constructor(
    private readonly state: SandboxState,
    private readonly faults: Faults,
    private readonly listen: { readonly host: string; readonly port: number },
  ) {
    // A client that breaks off is its own affair.
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

  /** The newest first. */
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

  /** As a mail program shows it. */
  @Get(':id/html')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
  html(@Param('id') id: string): string {
    return this.read(id).html;
  }

  @Delete()
  @HttpCode(204)
  clear(): void {
    this.state.data.mails.length = 0;
    this.state.changed();
  }
}
