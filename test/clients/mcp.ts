import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createInterface } from 'node:readline';

/** What a tool answers (Model Context Protocol, tools/call). */
export interface ToolResult {
  readonly isError?: boolean;
  readonly content: readonly { readonly text: string }[];
  readonly structuredContent?: unknown;
}

/** Speaks JSON-RPC 2.0 with a server of tools, a line of its stdin and stdout for each message. */
export class McpClient {
  private readonly waiting = new Map<number, (message: { result?: unknown; error?: unknown }) => void>();
  private readonly server: ChildProcessWithoutNullStreams;
  private said = '';
  private last = 0;

  constructor(command: string, env: NodeJS.ProcessEnv) {
    this.server = spawn(command, { env });
    this.server.stderr.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    createInterface({ input: this.server.stdout }).on('line', (line) => {
      const message = JSON.parse(line) as { id?: number; result?: unknown; error?: unknown };
      if (message.id !== undefined) this.waiting.get(message.id)?.(message);
    });
    this.server.once('close', () => {
      for (const answer of this.waiting.values()) answer({ error: `The server has ended:\n${this.said}` });
    });
  }

  async initialize(): Promise<void> {
    const clientInfo = { name: 'test', version: '0' };
    await this.request('initialize', { protocolVersion: '2025-06-18', capabilities: {}, clientInfo });
    this.send({ method: 'notifications/initialized' });
  }

  async tools(): Promise<string[]> {
    const { tools } = (await this.request('tools/list')) as { tools: { name: string }[] };
    return tools.map(({ name }) => name);
  }

  call(name: string, args: object = {}): Promise<ToolResult> {
    return this.request('tools/call', { name, arguments: args }) as Promise<ToolResult>;
  }

  /** Closes its stdin, at which it ends. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.server.exitCode !== null) return resolve();
      this.server.once('close', () => resolve());
      this.server.stdin.end();
    });
  }

  private request(method: string, params: object = {}): Promise<unknown> {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, ({ result, error }) => {
        this.waiting.delete(id);
        if (error === undefined) resolve(result);
        else reject(new Error(`${method}: ${typeof error === 'string' ? error : JSON.stringify(error)}`));
      });
      this.send({ id, method, params });
    });
  }

  private send(message: object): void {
    this.server.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }
}
